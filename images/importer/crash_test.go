package importer_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"rubus/images"
	"rubus/images/importer"
	"rubus/images/importer/imagetest"
)

// TestMain is also the process that is killed: with RUBUS_IMPORT set it imports
// that source into RUBUS_STORE, again and again.
func TestMain(m *testing.M) {
	if source := os.Getenv("RUBUS_IMPORT"); source != "" {
		s, err := images.Open(os.Getenv("RUBUS_STORE"))
		for err == nil {
			_, _, err = importer.Import(context.Background(), s, "lab", source, importer.Options{Stdin: os.Stdin})
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// Killed at any moment of an import: the store opens clean, every version it
// shows is whole, numbers only grow. RUBUS_KILLS sets how often (default 25).
func TestKilledAtRandom(t *testing.T) {
	kills := 25
	if n, err := strconv.Atoi(os.Getenv("RUBUS_KILLS")); err == nil {
		kills = n
	}
	src := t.TempDir()
	for i := range 300 {
		d := filepath.Join(src, "etc", strconv.Itoa(i%10))
		must(t, os.MkdirAll(d, 0o755))
		must(t, os.WriteFile(filepath.Join(d, strconv.Itoa(i)), make([]byte, i*37), 0o644))
	}
	must(t, os.WriteFile(filepath.Join(src, "big"), []byte(fmt.Sprint(make([]int, 1<<20))), 0o644))
	killImports(t, src, kills, func(i int) {
		if i%2 == 0 { // otherwise the layer is there already, which is another way
			must(t, os.WriteFile(filepath.Join(src, "etc/changes"), []byte(strconv.Itoa(i)), 0o644))
		}
	})
}

// The same for a packed disk image, of which most is unpacked before a file is read.
func TestImageKilledAtRandom(t *testing.T) {
	f := imagetest.Small()
	root, boot := imagetest.Parts(t, f)
	killImports(t, packed(t, imagetest.Make(t, f, root, boot))["disk image, zstd"], 8, func(int) {})
}

func killImports(t *testing.T, src string, kills int, before func(i int)) {
	t.Helper()
	store := filepath.Join(t.TempDir(), "images")
	rnd := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano()))) //nolint:gosec // moments, no secrets
	versions := 0
	longest := 400*time.Millisecond + 3*importTime(t, src)
	i := 0
	for ; i < kills || versions == 0 && i < kills+5; i++ {
		if i >= kills {
			longest *= 2 // the machine has more to do than it had when it was measured
		}
		before(i)
		c := exec.CommandContext(t.Context(), os.Args[0])
		c.Env = append(os.Environ(), "RUBUS_IMPORT="+src, "RUBUS_STORE="+store)
		must(t, c.Start())
		timer := time.NewTimer(time.Duration(rnd.Int64N(int64(longest))))
		<-timer.C
		must(t, c.Process.Kill())
		_ = c.Wait() // it was killed
		s, err := images.Open(store)
		must(t, err)
		if left, err := os.ReadDir(filepath.Join(store, "tmp")); err != nil || len(left) != 0 {
			t.Fatalf("kill %d: left in tmp: %v, %v", i, left, err)
		}
		list, err := s.List()
		if err != nil || len(list) < versions {
			t.Fatalf("kill %d: %d versions after %d, %v", i, len(list), versions, err)
		}
		versions = len(list)
		tags, err := s.Tags()
		must(t, err)
		if versions > 0 && tags["lab"] != list[versions-1].Ref.Version {
			t.Fatalf("kill %d: the tag is %d, the newest version %v", i, tags["lab"], list[versions-1].Ref)
		}
		layers, err := os.ReadDir(filepath.Join(store, "layers"))
		must(t, err)
		for _, l := range layers {
			must(t, s.Verify(t.Context(), l.Name(), nil))
		}
	}
	if versions == 0 {
		t.Error("no import ever finished: the kills come too early to show anything")
	}
	t.Logf("%d kills, %d versions", i, versions)
}

// importTime is how long this machine takes for a source, undisturbed.
func importTime(t *testing.T, src string) time.Duration {
	t.Helper()
	s, err := images.Open(filepath.Join(t.TempDir(), "images"))
	must(t, err)
	begin := time.Now()
	_, _, err = importer.Import(t.Context(), s, "lab", src, importer.Options{})
	must(t, err)
	return time.Since(begin)
}
