package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var ways = map[string]mountWay{"by fd": mountByFD, "by name": mountByName, "by string": mountByString}

// TestTwoBoards is the overlay story: what one board writes neither the other
// board nor the golden image sees.
func TestTwoBoards(t *testing.T) {
	golden := []string{"etc/hostname", "etc/motd", "usr/bin/ls", "var/"}
	stacks := map[string][][]string{
		"one layer": {golden},
		"three layers": {
			{"etc/hostname", "etc/old", "usr/bin/gone"},
			{"etc/motd", "usr/bin/ls", "-usr/bin/gone"},
			{"var/", "-etc/old"},
		},
	}
	for stack, layers := range stacks {
		for way, mount := range ways {
			t.Run(stack+" "+way, func(t *testing.T) {
				s := newStore(t, t.TempDir(), layers...)
				before := treeDigest(t, filepath.Join(s.dir, "layers"))
				one, two := s.spec("00000001"), s.spec("00000002")
				s.mount(one, mount)
				s.mount(two, mount)

				must(t, os.Remove(filepath.Join(one.Target, "etc/hostname")))
				must(t, os.WriteFile(filepath.Join(one.Target, "etc/motd"), []byte("changed"), 0o644))
				must(t, os.WriteFile(filepath.Join(one.Target, "etc/new"), []byte("new"), 0o644))
				want := []string{"dir etc", "file etc/motd", "file etc/new", "whiteout etc/hostname"}
				if d := cmp.Diff(want, list(t, filepath.Join(one.UpperDir, "upper"))); d != "" {
					t.Errorf("board 1's upper (-want +got):\n%s", d)
				}
				if got := readAll(t, filepath.Join(one.UpperDir, "upper/etc/motd")); got != "changed" {
					t.Errorf("copy in the upper: %q", got)
				}
				for name, want := range map[string][2]string{
					"etc/hostname": {"(missing)", "golden etc/hostname"},
					"etc/motd":     {"changed", "golden etc/motd"},
					"etc/new":      {"new", "(missing)"},
					"usr/bin/ls":   {"golden usr/bin/ls", "golden usr/bin/ls"},
					"usr/bin/gone": {"(missing)", "(missing)"},
					"etc/old":      {"(missing)", "(missing)"},
				} {
					for i, spec := range []Spec{one, two} {
						if got := readAll(t, filepath.Join(spec.Target, name)); got != want[i] {
							t.Errorf("board %d sees %q as %q, want %q", i+1, name, got, want[i])
						}
					}
				}
				if got := list(t, filepath.Join(two.UpperDir, "upper")); got != nil {
					t.Errorf("board 2's upper has %q", got)
				}
				for serial, want := range map[string]bool{"00000001": false, "00000002": true} {
					if empty, err := s.uppers(serial).IsEmpty(one.UpperID); err != nil || empty != want {
						t.Errorf("upper of %s empty: %v, %v; want %v", serial, empty, err, want)
					}
				}
				must(t, os.Rename(filepath.Join(one.Target, "usr"), filepath.Join(one.Target, "usr2")))
				if after := treeDigest(t, filepath.Join(s.dir, "layers")); after != before {
					t.Error("the golden layers have changed")
				}
			})
		}
	}
}

func TestMountAdopts(t *testing.T) {
	s := newStore(t, t.TempDir(), []string{"a"})
	spec := s.spec("00000001")
	first := s.mount(spec)
	again := s.mount(spec)
	if first != again || first.MountID == 0 {
		t.Errorf("second mount %+v, first %+v", again, first)
	}
	roots, err := Mounted()
	must(t, err)
	if !slices.Contains(roots, first) {
		t.Errorf("mounted %+v, want %+v among them", roots, first)
	}

	other := s.spec("00000001")
	if _, err := Mount(t.Context(), other); !errors.Is(err, unix.EBUSY) || other.UpperID.N() != 2 {
		t.Errorf("another upper at the same place: %v", err)
	}
	spec.Target += "-elsewhere"
	for name, way := range ways {
		if _, err := mountRoot(t.Context(), spec, []mountWay{way, mountByString}); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "mounted elsewhere") {
			t.Errorf("one upper twice, %s: %v", name, err)
		}
	}

	wrong := first
	wrong.MountID++
	if err := Unmount(t.Context(), wrong); err == nil {
		t.Error("unmounted a root by the wrong mount id")
	}
	held, err := os.Open(first.Target)
	must(t, err)
	if err := Unmount(t.Context(), first); !errors.Is(err, unix.EBUSY) {
		t.Errorf("unmounting a root in use: %v", err)
	}
	must(t, held.Close())
	must(t, Unmount(t.Context(), first))
	must(t, Unmount(t.Context(), first)) // twice is fine
}

// TestOlderKernel goes on to the next way of mounting, and stops at a refusal.
func TestOlderKernel(t *testing.T) {
	s := newStore(t, t.TempDir(), []string{"a"})
	spec := s.spec("00000001")
	old := func(MountPlan, layerFDs) error { return errNoWay }
	refused := func(MountPlan, layerFDs) error { return unix.EPERM }
	if _, err := mountRoot(t.Context(), spec, []mountWay{old, refused, mountByString}); !errors.Is(err, unix.EPERM) {
		t.Errorf("after a refusal: %v", err)
	}
	s.mount(spec, old, old, mountByString)
}

// TestThroughSymlink has the whole state directory behind a symlink.
func TestThroughSymlink(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "real"), 0o755))
	must(t, os.Symlink("real", filepath.Join(dir, "link")))
	s := newStore(t, filepath.Join(dir, "link"), []string{"a"})
	spec := s.spec("00000001")
	root := s.mount(spec)
	if again := s.mount(spec); again != root {
		t.Errorf("%+v was not adopted: %+v", root, again)
	}
	if err := s.uppers("00000001").Remove(t.Context(), spec.UpperID); !errors.Is(err, unix.EBUSY) {
		t.Errorf("removing the mounted upper: %v", err)
	}
	must(t, Unmount(t.Context(), root))
	must(t, unix.Mount(dir, filepath.Join(spec.UpperDir, "upper"), "", unix.MS_BIND, ""))
	if err := s.uppers("00000001").Remove(t.Context(), spec.UpperID); !errors.Is(err, unix.EBUSY) {
		t.Errorf("removing an upper with a mount in it: %v", err)
	}
	must(t, unix.Unmount(filepath.Join(spec.UpperDir, "upper"), 0))
}

// TestHandleSurvivesRemount is what lets boards go on after a server reboot.
func TestHandleSurvivesRemount(t *testing.T) {
	s := newStore(t, t.TempDir(), []string{"a"}, []string{"b"})
	spec := s.spec("00000001")
	root := s.mount(spec, mountByString)
	must(t, os.WriteFile(filepath.Join(root.Target, "a"), []byte("x"), 0o600))
	var before []string
	for _, n := range []string{"a", "b"} {
		h, _, err := identify(filepath.Join(root.Target, n))
		must(t, err)
		before = append(before, h)
	}
	must(t, Unmount(t.Context(), root))
	root = s.mount(spec)
	for i, n := range []string{"a", "b"} {
		if h, _, err := identify(filepath.Join(root.Target, n)); err != nil || h != before[i] {
			t.Errorf("handle of %q is %s (%v), was %s", n, h, err, before[i])
		}
	}
}

func TestManyLayers(t *testing.T) {
	var layers [][]string
	for i := range 60 {
		layers = append(layers, []string{fmt.Sprintf("f%d", i), "top" + strings.Repeat("x", i)})
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, t.TempDir(), layers...)
			root := s.mount(s.spec("00000001"), way)
			for _, f := range []string{"f0", "f59"} {
				if got := readAll(t, filepath.Join(root.Target, f)); got != "golden "+f {
					t.Errorf("%q is %q", f, got)
				}
			}
		})
	}
	t.Run("too many for mount(2)", func(t *testing.T) {
		for i := range 140 {
			layers = append(layers, []string{fmt.Sprintf("g%d", i)})
		}
		s := newStore(t, t.TempDir(), layers...)
		spec := s.spec("00000001")
		if _, err := mountRoot(t.Context(), spec, []mountWay{mountByString}); err == nil || !strings.Contains(err.Error(), "6.13") {
			t.Errorf("200 layers by string: %v", err)
		}
		s.mount(spec, mountByFD)
	})
}

func TestHostileNames(t *testing.T) {
	for _, name := range []string{`a,b`, `a:b`, `a\b`, `a b`, "a\nb", `a\054b`, `lowerdir=x`, `é"'$`, `=`, `#`} {
		for wayName, way := range ways {
			dir := filepath.Join(t.TempDir(), name)
			s := newStore(t, dir, []string{"f"}, []string{"g"})
			spec := s.spec("00000001")
			root := s.mount(spec, way, mountByString)
			if got := readAll(t, filepath.Join(root.Target, "f")); got != "golden f" {
				t.Errorf("below %q, %s: %q", name, wayName, got)
			}
			if again := s.mount(spec); again != root {
				t.Errorf("below %q, %s: not adopted", name, wayName)
			}
			if err := s.uppers("00000001").Remove(t.Context(), spec.UpperID); !errors.Is(err, unix.EBUSY) {
				t.Errorf("below %q, %s: removing the mounted upper: %v", name, wayName, err)
			}
			must(t, Unmount(t.Context(), root))
		}
	}
}

// TestChangedBase shows that an old upper never gets to the kernel over a
// layer that was made anew, be its content the same: over another top layer
// the kernel would say ESTALE, over another bottom layer nothing at all.
func TestChangedBase(t *testing.T) {
	for layer, kernel := range map[int]error{0: nil, 1: unix.ESTALE} {
		s := newStore(t, t.TempDir(), []string{"a"}, []string{"b"})
		spec := s.spec("00000001")
		must(t, Unmount(t.Context(), s.mount(spec)))

		old := s.layers[layer] + "-old"
		must(t, os.Rename(s.layers[layer], old))
		if out, err := exec.Command("cp", "-a", old, s.layers[layer]).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if _, err := Mount(t.Context(), spec); !errors.Is(err, ErrOtherBase) || errors.Is(err, unix.ESTALE) {
			t.Errorf("over a copy of layer %d: %v", layer, err)
		}
		must(t, os.RemoveAll(s.layers[layer]))
		must(t, os.Rename(old, s.layers[layer]))
		must(t, Unmount(t.Context(), s.mount(spec)))

		must(t, os.Rename(s.layers[layer], old))
		if out, err := exec.Command("cp", "-a", old, s.layers[layer]).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		spec.Base = s.baseNow()
		root, err := Mount(t.Context(), spec)
		if !errors.Is(err, kernel) {
			t.Errorf("the kernel over a copy of layer %d: %v, want %v", layer, err, kernel)
		}
		if err == nil {
			must(t, Unmount(t.Context(), root))
		}
	}
}

func TestDroppedOptions(t *testing.T) {
	s := newStore(t, t.TempDir(), []string{"a"})
	// A file system without handles makes the kernel drop index and nfs_export
	// and say nothing.
	ram := filepath.Join(s.dir, "ram")
	must(t, os.Mkdir(ram, 0o755))
	must(t, unix.Mount("none", ram, "ramfs", 0, ""))
	t.Cleanup(func() { unix.Unmount(ram, unix.MNT_DETACH) })
	if _, err := BaseOf([]string{"x"}, []string{ram}); err == nil || !strings.Contains(err.Error(), "no file handles") {
		t.Errorf("base on ramfs: %v", err)
	}
	spec := s.spec("00000001")
	spec.LayerDirs = []string{ram}
	plan, err := Plan(spec)
	must(t, err)
	must(t, makeTarget(plan.Target))
	must(t, attach(plan, mountWays()))
	if _, err := checked(plan); err == nil || !strings.Contains(err.Error(), "dropped index=on") {
		t.Errorf("options the kernel dropped: %v", err)
	}
	if err := verifyHandles(plan.Target); err == nil {
		t.Error("found handles where there are none")
	}
	must(t, unix.Unmount(plan.Target, 0))

	foreign := s.spec("00000002")
	must(t, makeTarget(foreign.Target))
	must(t, unix.Mount("none", foreign.Target, "tmpfs", 0, ""))
	t.Cleanup(func() { unix.Unmount(foreign.Target, unix.MNT_DETACH) })
	if _, err := Mount(t.Context(), foreign); !errors.Is(err, unix.EBUSY) {
		t.Errorf("mounted over a foreign mount: %v", err)
	}
}

func TestTwoFileSystems(t *testing.T) {
	s := newStore(t, t.TempDir(), []string{"a", "b"})
	tmp := filepath.Join(s.dir, "devices")
	must(t, os.Mkdir(tmp, 0o700))
	must(t, unix.Mount("none", tmp, "tmpfs", 0, ""))
	t.Cleanup(func() { unix.Unmount(tmp, unix.MNT_DETACH) })
	root := s.mount(s.spec("00000001"))
	m, err := mountInTable(root.Target)
	must(t, err)
	if v, _ := superOption(m, "xino"); v != "on" {
		t.Errorf("mount options %q: xino isn't on", m.VFSOptions)
	}
	_, before, err := identify(filepath.Join(root.Target, "a"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(root.Target, "a"), []byte("x"), 0o600))
	if _, after, err := identify(filepath.Join(root.Target, "a")); err != nil || before != after {
		t.Errorf("inode number %d, was %d (%v)", after, before, err)
	}
}

func TestTarget(t *testing.T) {
	s := newStore(t, t.TempDir(), []string{"a"})
	must(t, os.Mkdir(filepath.Join(s.dir, "roots"), 0o755))
	spec := s.spec("00000001")
	if _, err := Mount(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("below a directory that is open to all: %v", err)
	}
	must(t, os.Chmod(filepath.Join(s.dir, "roots"), 0o700))
	root := s.mount(spec)
	m, err := mountInTable(root.Target)
	must(t, err)
	if !strings.Contains(m.Options, "nosuid") || !strings.Contains(m.Options, "nodev") || strings.Contains(m.Options, "noexec") {
		t.Errorf("mount flags %q", m.Options)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Mount(ctx, s.spec("00000002")); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is over: %v", err)
	}
}

// TestPropagation shows that roots show up in mount namespaces that share
// mounts with ours, as an administrator's shell does with the daemon's.
func TestPropagation(t *testing.T) {
	s := newStore(t, t.TempDir(), []string{"a"})
	shared := filepath.Join(s.dir, "roots")
	must(t, os.Mkdir(shared, 0o700))
	must(t, unix.Mount(shared, shared, "", unix.MS_BIND, ""))
	t.Cleanup(func() { unix.Unmount(shared, unix.MNT_DETACH) })
	must(t, unix.Mount("", shared, "", unix.MS_SHARED, ""))
	peer := exec.Command("unshare", "-m", "--propagation", "unchanged", "sh", "-c", "echo ready; read x; cat /proc/self/mountinfo")
	in, err := peer.StdinPipe()
	must(t, err)
	out, err := peer.StdoutPipe()
	must(t, err)
	must(t, peer.Start())
	ready := make([]byte, 6)
	if _, err := out.Read(ready); err != nil {
		t.Fatal(err)
	}
	for i, way := range []mountWay{mountByFD, mountByString} {
		s.mount(s.spec(fmt.Sprintf("0000000%d", i+1)), way, mountByString)
	}
	must(t, in.Close())
	var sees strings.Builder
	for buf := make([]byte, 4096); ; {
		n, err := out.Read(buf)
		sees.Write(buf[:n])
		if err != nil {
			break
		}
	}
	must(t, peer.Wait())
	for _, serial := range []string{"rubus:00000001:", "rubus:00000002:"} {
		if !strings.Contains(sees.String(), serial) {
			t.Errorf("a namespace that shares our mounts doesn't see %s", serial)
		}
	}
}

func TestProbe(t *testing.T) {
	needNamespace(t)
	dir := t.TempDir()
	must(t, Probe(t.Context(), dir))
	ram := filepath.Join(dir, "ram")
	must(t, os.Mkdir(ram, 0o755))
	must(t, unix.Mount("none", ram, "ramfs", 0, ""))
	t.Cleanup(func() { unix.Unmount(ram, unix.MNT_DETACH) })
	if err := Probe(t.Context(), ram); err == nil || !strings.Contains(err.Error(), "ext4") {
		t.Errorf("probing ramfs: %v", err)
	}
	if got := list(t, dir); !slices.Equal(got, []string{"dir ram"}) {
		t.Errorf("left behind: %q", got)
	}
	if err := Probe(t.Context(), filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("probing nothing: %v", err)
	}
}
