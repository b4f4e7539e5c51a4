package share_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"rubus/images"
	"rubus/images/importer"
	"rubus/images/share"
)

// childStore, when set, makes the test program join the files of that store, one line of
// output for each event, and nothing else.
const childStore = "RUBUS_SHARE_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childStore); dir != "" {
		s, err := images.Open(dir)
		if err == nil {
			_, err = share.Run(context.Background(), s, share.Options{Progress: func(e share.Event) { fmt.Println(e.Files) }})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Killed at any event, files are what they were, and the next run joins the rest.
func TestKilled(t *testing.T) {
	dir := disk(t, "xfs")
	s := plain(t, dir, root(t, 1), root(t, 2))
	layers, err := s.Layers(t.Context())
	must(t, err)
	before := stats(t, s.Dir())
	look, err := share.Run(t.Context(), s, share.Options{DryRun: true})
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	for after := 1; after < 60; after += 7 {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), childStore+"="+s.Dir())
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for range after {
			if !lines.Scan() {
				t.Fatalf("it ended before %d events", after)
			}
		}
		must(t, cmd.Process.Kill())
		var killed *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &killed) {
			t.Fatal(err)
		}
		if got := stats(t, s.Dir()); got != before {
			t.Fatalf("killed after %d events, files changed:\n%s\nbefore:\n%s", after, got, before)
		}
	}
	rep, err := share.Run(t.Context(), s, share.Options{})
	must(t, err)
	if rep.Bytes+rep.Before != look.Bytes {
		t.Errorf("joined in the end: %+v, announced %+v", rep, look)
	}
	for _, l := range layers {
		must(t, s.Verify(t.Context(), l.Digest, nil))
	}
}

// What a build's steps and an edit bring is joined like an import's.
func TestSteps(t *testing.T) {
	s := open(t, disk(t, "xfs"))
	base, _, err := importer.Import(t.Context(), s, "lab", root(t, 1), importer.Options{})
	must(t, err)
	build := func(chain string) importer.Report {
		t.Helper()
		upper := root(t, 2)
		_, rep, err := importer.BuildSteps(t.Context(), s, "built", "steps", []importer.Step{{
			Text: chain,
			Upper: func(context.Context, []string) (string, func() error, error) {
				return upper, func() error { return nil }, nil
			},
		}}, importer.Options{Base: &base})
		must(t, err)
		return rep
	}
	const least = 20*100_000 + 5<<20
	if rep := build("one"); rep.Joined == nil || rep.Joined.Bytes < least {
		t.Errorf("a step joined %+v", rep.Joined)
	}
	_, rep, err := importer.Seal(t.Context(), s, "lab", root(t, 3), "an edit", importer.Options{Base: &base})
	must(t, err)
	if rep.Joined == nil || rep.Joined.Bytes < least {
		t.Errorf("an edit joined %+v", rep.Joined)
	}
	// As before: there is nothing new.
	if rep := build("one"); rep.Joined != nil {
		t.Errorf("a step that was there joined %+v", rep.Joined)
	}
}
