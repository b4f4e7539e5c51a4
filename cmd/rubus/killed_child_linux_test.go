package main

import (
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// staging are the calls by which the process that an image is edited in gets from one stage to
// the next: mounts, a root and a name of its own, and what it, or the command, makes.
func staging() []uint32 {
	return append(mounting(), unix.SYS_SETHOSTNAME, unix.SYS_FTRUNCATE, unix.SYS_MKDIRAT, unix.SYS_UNLINKAT, unix.SYS_UTIMENSAT)
}

// What an edit or a step of a build runs in is killed, as by the kernel when memory is short, and so
// is what it started: rubus says so, there is no new version, and nothing is left of it: no process, no mount, no
// file, no lock.
func TestChildIsKilled(t *testing.T) {
	const work = "echo one >/bin/one && truncate -s 2 /bin/one && echo two >/bin/two && truncate -s 2 /bin/two"
	for name, args := range map[string][]string{
		"edit": {"image", "edit", "lab", "--tag", "--", "sh", "-c", work},
		"run":  {"image", "build", "lab", "DIR/run.yaml", "--tag"},
		"copy": {"image", "build", "lab", "DIR/copy.yaml", "--tag"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newKilledWorld(t, filepath.Join(inMemory(t), "world"))
			busyboxIn(w, "lab")
			w.put("file", "file")
			w.put("run.yaml", "from: lab\nsteps:\n  - run: "+work+"\n")
			w.put("copy.yaml", "from: lab\nsteps:\n  - copy: {from: file, to: /bin/new/file}\n")
			args := slices.Clone(args)
			for i, a := range args {
				args[i] = strings.Replace(a, "DIR", w.dir, 1)
			}
			rubus, err := exec.LookPath("rubus")
			if err != nil {
				t.Fatal(err)
			}
			had, files, kills := w.versions(), w.files(), 0
			for n := 1; ; n++ {
				k := killer{calls: staging(), child: true}
				st, text := k.run(t, n, w.env("state"), rubus, args...)
				if k.left > 0 {
					if st != 0 {
						t.Errorf("not killed, it ends with %d: %s", st.ExitStatus(), text)
					}
					break
				}
				kills++
				if !st.Exited() || st.ExitStatus() == 0 || !strings.Contains(text, "was killed (exit code 137)") {
					t.Errorf("its child was killed, and it ends with %#x: %s", st, text)
				}
				if now := w.files(); !slices.Equal(now, files) {
					t.Errorf("left behind: %q", slices.DeleteFunc(now, func(f string) bool { return slices.Contains(files, f) }))
				}
				w.noneMounted()
				if t.Failed() {
					t.Fatalf("killed before call %d: %s", n, text)
				}
			}
			if now := w.versions(); now == had || kills < 20 {
				t.Errorf("killed %d times; there was %s, and is %s", kills, had, now)
			}
			t.Logf("killed %d times", kills)
		})
	}
}

// files are the names of all that there is.
func (w *killedWorld) files() (out []string) {
	w.t.Helper()
	err := filepath.WalkDir(w.dir, func(p string, _ fs.DirEntry, err error) error {
		out = append(out, p)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}
