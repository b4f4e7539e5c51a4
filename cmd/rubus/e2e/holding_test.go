package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"rubus/cmd/rubus/e2e/harness"
)

// holding is what the daemon, and the state directory, have of things that must not
// grow with the number of boots. Threads at work are those that do not wait to be told:
// Go ends no thread that calls once needed side by side, such as waits for a slow disk.
type holding struct{ fds, threads, working, mounts, files, kib int }

// above says what of h is more than limit has, with what boards may differ in from one
// moment to the next.
func (h holding) above(limit holding) error {
	var more []string
	for _, m := range []struct {
		what          string
		is, was, room int
	}{
		{"descriptors", h.fds, limit.fds, 8},
		{"threads", h.threads, limit.threads, 64},
		{"threads at work", h.working, limit.working, 8},
		{"mounts", h.mounts, limit.mounts, 0},
		{"files of boards", h.files, limit.files, 8},
		{"KiB of memory", h.kib, limit.kib, limit.kib/4 + 4<<10},
	} {
		if m.is > m.was+m.room {
			more = append(more, fmt.Sprintf("%d %s, %d were enough", m.is, m.what, m.was))
		}
	}
	if more == nil {
		return nil
	}
	return errors.New(strings.Join(more, "; "))
}

func (h holding) most(o holding) holding {
	return holding{max(h.fds, o.fds), max(h.threads, o.threads), max(h.working, o.working), max(h.mounts, o.mounts), max(h.files, o.files), max(h.kib, o.kib)}
}

// holds looks at the daemon.
func (d *daemon) holds() (h holding, err error) {
	proc := fmt.Sprintf("/proc/%d/", d.Pid())
	fds, err := os.ReadDir(proc + "fd")
	if err != nil {
		return h, err
	}
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		return h, err
	}
	field := func(name string) int {
		_, rest, _ := bytes.Cut(status, []byte("\n"+name+":"))
		n, _ := strconv.Atoi(strings.Fields(string(rest) + " 0")[0])
		return n
	}
	h = holding{fds: len(fds), threads: field("Threads"), kib: field("VmRSS")}
	tasks, err := filepath.Glob(proc + "task/*/wchan")
	if err != nil {
		return h, err
	}
	for _, name := range tasks {
		if in, err := os.ReadFile(name); err == nil && !bytes.HasPrefix(in, []byte("futex_")) {
			h.working++
		}
	}
	if h.working >= len(tasks) {
		h.working = 0 // some always wait to be told: this kernel does not say who
	}
	points, err := harness.MountPoints(d.l.dir)
	if err != nil {
		return h, err
	}
	h.mounts = len(points)
	// Of roots, whose content is the image's, the mount points alone.
	for _, dir := range []string{"devices", "roots"} {
		err = errors.Join(err, filepath.WalkDir(filepath.Join(d.l.state(), dir), func(name string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it went in between
			}
			h.files++
			if deep := strings.Count(strings.TrimPrefix(name, d.l.state()), "/"); err == nil && e.IsDir() && dir == "roots" && deep == 3 {
				return fs.SkipDir
			}
			return err
		}))
	}
	return h, err
}

// What has grown is told, and what differs from one moment to the next is not.
func TestHoldingAbove(t *testing.T) {
	limit := holding{fds: 100, threads: 10, working: 3, mounts: 7, files: 200, kib: 80000}
	for name, c := range map[string]struct {
		now  holding
		want string
	}{
		"the same":    {limit, ""},
		"less":        {holding{}, ""},
		"a moment":    {holding{108, 74, 11, 7, 208, 104000}, ""},
		"descriptors": {holding{fds: 109}, "109 descriptors, 100 were enough"},
		"threads":     {holding{threads: 75}, "75 threads, 10 were enough"},
		"at work":     {holding{working: 12}, "12 threads at work, 3 were enough"},
		"mounts":      {holding{mounts: 8}, "8 mounts, 7 were enough"},
		"files":       {holding{files: 209}, "209 files of boards, 200 were enough"},
		"memory":      {holding{kib: 104097}, "104097 KiB of memory, 80000 were enough"},
	} {
		if got := fmt.Sprint(c.now.above(limit)); got != c.want && (c.want != "" || got != "<nil>") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// linesWith are the lines of a text with a word.
func linesWith(text, word string) string {
	var found strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			found.WriteString(line)
		}
	}
	return found.String()
}

// details says what the daemon's numbers are made of, for whoever looks for a leak.
func (d *daemon) details() string {
	proc := fmt.Sprintf("/proc/%d/", d.Pid())
	kinds := map[string]int{}
	for _, pattern := range []string{"fd/*", "task/*/wchan"} {
		names, _ := filepath.Glob(proc + pattern)
		for _, name := range names {
			kind, err := os.Readlink(name)
			if err != nil {
				in, _ := os.ReadFile(name) // gone meanwhile
				kind = "a thread in " + string(in)
			}
			kind, _, _ = strings.Cut(kind, ":[") // sockets and pipes have numbers
			kinds[strings.TrimPrefix(kind, d.l.state())]++
		}
	}
	var text strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		fmt.Fprintf(&text, "%4d %s\n", kinds[kind], kind)
	}
	points, err := harness.MountPoints(d.l.dir)
	for _, p := range points {
		fmt.Fprintf(&text, "mount %s\n", p.Mountpoint)
	}
	records, _ := filepath.Glob(filepath.Join(d.l.state(), "devices/*/device.json"))
	for _, name := range records {
		b, _ := os.ReadFile(name)
		fmt.Fprintf(&text, "%s: %s\n", name, b)
	}
	if err != nil {
		fmt.Fprintln(&text, err)
	}
	return text.String()
}
