package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rubus/boot/fakepi"
	"rubus/boot/fakepi/nic"
	"rubus/cmd/internal/control"
	"rubus/cmd/rubus/e2e/harness"
	"rubus/nfsexport/xdr"
)

const (
	// soakTime is how long the soak takes; RUBUS_SOAK says another time.
	soakTime = time.Minute
	// soakBoards boot in each round, every other one with an ephemeral root.
	soakBoards = 4
	// warmRounds are looked at to know how much there is; a daemon is killed or
	// stopped after as many, and again after lifeRounds.
	warmRounds, lifeRounds = 3, 24
	// settled is how long what is on its way out may take.
	settled = 45 * time.Second
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

// TestSoak has boards boot over and over, with reloads, resets and restarts of the
// daemon between: what it holds stays what it was after the first few.
func TestSoak(t *testing.T) {
	t.Parallel()
	length := soakTime
	if v := os.Getenv("RUBUS_SOAK"); v != "" {
		var err error
		length, err = time.ParseDuration(v)
		must(t, err)
	}
	l := newLab(t)
	l.golden()
	s := &soak{l: l, boots: make([]int, soakBoards)}
	for i := range soakBoards {
		s.boards = append(s.boards, l.board("4b", fmt.Sprintf("b84000%02x", i), fmt.Sprintf("dc:a6:32:40:00:%02x", i), 101+i))
	}
	s.configure(0)
	d := l.serve("quiet: 1s")
	var rounds []holding
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what the daemon held, round by round: %+v\n%s", rounds, d.details())
		}
	})
	var limit holding
	lives, round := 1, 1
	for begin := time.Now(); time.Since(begin) < length || round <= warmRounds*3; round++ {
		s.round(round)
		var now holding
		if round <= 2*warmRounds {
			var err error
			now, err = d.holds()
			must(t, err)
			limit = limit.most(now)
			t.Logf("round %d: %+v", round, now)
		} else {
			l.until(settled, fmt.Sprintf("in round %d the daemon holds what it held in the first %d", round, 2*warmRounds), func() (err error) {
				if now, err = d.holds(); err == nil {
					err = now.above(limit)
				}
				return err
			})
		}
		rounds = append(rounds, now)
		if round == warmRounds || round%lifeRounds == 0 {
			if lives++; lives%2 == 0 {
				d.Kill()
			} else {
				d.Stop()
			}
			d.Start()
		}
		d.Alive()
	}
	t.Logf("%d boots, %d daemons", (round-1)*soakBoards, lives)
	for _, bad := range []string{"panic", "DATA RACE", "level=ERROR"} {
		if err := d.Said(0, bad); err == nil {
			t.Errorf("the daemon's log has %q:\n%s", bad, linesWith(d.Text(0), bad))
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

// soak is what the rounds share.
type soak struct {
	l      *lab
	boards []*board
	boots  []int // of each board since its root was new
}

// configure writes devices.yaml, each time with other words for the kernel.
func (s *soak) configure(round int) {
	text := fmt.Sprintf("defaults: {image: lab, cmdline: [round=%d]}\ndevices:\n", round)
	for i, b := range s.boards {
		text += fmt.Sprintf("  - {serial: %s, overlay: %s}\n", b.serial, []string{"persistent", "ephemeral"}[i%2])
	}
	s.l.devices(text)
}

// round has all boards boot at once and work on their roots, makes the daemon read its
// configuration again, and takes a board's writes away.
func (s *soak) round(n int) {
	t, d := s.l.t, s.l.daemon
	t.Helper()
	// A board with an ephemeral root leaves one behind at each boot, and is refused one
	// more when they are many. They go when nobody has called on them for a while.
	s.l.until(settled, "roots of boots before go", func() error {
		for _, b := range s.boards {
			if r, err := harness.Record(s.l.state(), b.serial); err == nil && len(r.Slots) > 4 {
				return fmt.Errorf("board %s has %d", b.serial, len(r.Slots))
			}
		}
		return nil
	})
	s.configure(n)
	_, err := d.ask().Reload(t.Context(), false)
	must(t, err)
	lines := make([]string, len(s.boards))
	errs := make([]error, len(s.boards))
	var all sync.WaitGroup
	for i, b := range s.boards {
		all.Go(func() { lines[i], errs[i] = b.cmdline(t.Context()) })
	}
	all.Wait()
	must(t, errors.Join(errs...))
	for i, b := range s.boards {
		if want := fmt.Sprintf("round=%d", n); !strings.Contains(lines[i]+" ", want+" ") {
			t.Fatalf("board %s has the command line %q, without %q", b.serial, lines[i], want)
		}
		if i%2 == 1 {
			s.boots[i] = 0
		}
		s.work(b, lines[i], s.boots[i])
		s.boots[i]++
	}
	reset := n % (soakBoards / 2) * 2 // a persistent one
	serial := s.boards[reset].serial
	must(t, d.ask().Reset(t.Context(), serial, control.ResetOptions{Force: true}, nil))
	s.boots[reset] = 0
	kept, err := d.ask().Snapshots(t.Context(), serial)
	must(t, err)
	for _, k := range kept {
		must(t, d.ask().RemoveSnapshot(t.Context(), serial, k.N))
	}
}

// cmdline is powerOn for a goroutine of its own: it gives the command line.
func (b *board) cmdline(ctx context.Context) (string, error) {
	link, err := nic.Open(b.l.bridge)
	if err != nil {
		return "", err
	}
	defer link.Close()
	pi, err := fakepi.NewBoard(b.model, b.serial, b.mac)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	r, err := fakepi.Run(ctx, pi, fakepi.Options{Link: link, Patience: 3, Discard: true})
	if err != nil {
		return "", fmt.Errorf("the firmware of board %s: %w", b.serial, err)
	}
	return r.Cmdline, nil
}

// work mounts a board's root, finds there what boots before left, and leaves something.
func (s *soak) work(b *board, cmdline string, boots int) {
	t := s.l.t
	t.Helper()
	_, path := nfsroot(t, cmdline)
	st := s.l.station(b.mac.String(), b.os)
	defer st.close()
	status, root := st.mount(path)
	if status != 0 {
		t.Fatalf("MOUNT of %s: status %d", path, status)
	}
	if got := st.read(st.walk(root, "etc/motd")); got != "Welcome to the golden image.\n" {
		t.Fatalf("board %s reads %q", b.serial, got)
	}
	st.read(st.walk(root, "sbin/init")) // user space has begun
	home := st.walk(root, "home")
	for i := range boots + 1 {
		want := uint32(0)
		if i == boots {
			want = 2 // NFS3ERR_NOENT
		}
		if status, _ := st.nfs(procLookup, home, func(w *xdr.Writer) { w.String(fmt.Sprintf("boot-%d", i)) }); status != want {
			t.Fatalf("board %s has booted %d times: file %d of before: status %d", b.serial, boots, i, status)
		}
	}
	status, r := st.nfs(procCreate, home, func(w *xdr.Writer) {
		w.String(fmt.Sprintf("boot-%d", boots))
		for range 7 { // unchecked, no attributes
			w.Uint32(0)
		}
	})
	if status != 0 || !r.Bool() {
		t.Fatalf("board %s, CREATE: status %d", b.serial, status)
	}
	file := r.Opaque(64)
	status, _ = st.nfs(procWrite, file, func(w *xdr.Writer) {
		w.Uint64(0)
		w.Uint32(4096)
		w.Uint32(2) // FILE_SYNC
		w.Opaque(make([]byte, 4096))
	})
	if status != 0 {
		t.Fatalf("board %s, WRITE: status %d", b.serial, status)
	}
}
