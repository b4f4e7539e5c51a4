package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	// warmRounds are looked at to know how much there is. A daemon is killed or stopped
	// after as many, the next one after lifeRounds, and each one after that lives twice
	// as long: what grows slowly shows, too.
	warmRounds, lifeRounds = 3, 21
	// settled is how long what is on its way out may take.
	settled = 45 * time.Second
)

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
	s := &soak{l: l, boots: make([]int, soakBoards), roots: make([][]byte, soakBoards)}
	for i := range soakBoards {
		s.boards = append(s.boards, l.board("4b", fmt.Sprintf("b84000%02x", i), fmt.Sprintf("dc:a6:32:40:00:%02x", i), 101+i))
	}
	s.configure(0)
	rubus := shared.Rubus
	if length > soakTime {
		// The race detector's own memory grows for hours: 80 MB at the start, 114 MB after
		// 400 boots, where rubus alone has 35 and 39.
		rubus = shared.Plain
	}
	d := l.serveBy(rubus, "quiet: 1s")
	var rounds []holding
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what the daemon held, round by round: %+v\n%s", rounds, d.details())
		}
	})
	var limit holding
	lives, round, ends := 1, 1, warmRounds
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
		if round == ends {
			ends += lifeRounds << (lives - 1)
			if lives++; lives%2 == 0 {
				d.Kill()
			} else {
				d.Stop()
			}
			d.Start()
		}
		d.Alive()
	}
	t.Logf("%d rounds of %d boots, a reload and a reset, %d daemons; the most in the first %d rounds: %+v, in the last round: %+v",
		round-1, soakBoards, lives, 2*warmRounds, limit, rounds[len(rounds)-1])
	for _, bad := range []string{"panic", "DATA RACE", "level=ERROR"} {
		if err := d.Said(0, bad); err == nil {
			t.Errorf("the daemon's log has %q:\n%s", bad, linesWith(d.Text(0), bad))
		}
	}
}

// soak is what the rounds share.
type soak struct {
	l      *lab
	boards []*board
	boots  []int // of each board since its root was new
	// roots has the handle that each board runs on; nil: it was cut off.
	roots [][]byte
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
	// more when they are many. They go when nobody has called on them for a while, and the
	// board has on its newest: after a restart it has to be heard of again.
	for i := range s.boards {
		s.live(i)
	}
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
		s.roots[i] = s.work(b, lines[i], s.boots[i])
		s.boots[i]++
	}
	reset := n % (soakBoards / 2) * 2 // a persistent one
	serial := s.boards[reset].serial
	must(t, d.ask().Reset(t.Context(), serial, control.ResetOptions{Force: true}, nil))
	s.boots[reset], s.roots[reset] = 0, nil
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

// live has a board call on the root that it runs on, as one that is up does all the time.
func (s *soak) live(i int) {
	t := s.l.t
	t.Helper()
	if s.roots[i] == nil {
		return
	}
	b := s.boards[i]
	st := s.l.station(b.mac.String(), b.os)
	defer st.close()
	if status, _ := st.nfs(procGetAttr, s.roots[i], func(*xdr.Writer) {}); status != 0 {
		t.Fatalf("board %s, GETATTR of its root: status %d", b.serial, status)
	}
}

// work mounts a board's root, finds there what boots before left, and leaves something.
func (s *soak) work(b *board, cmdline string, boots int) []byte {
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
	return root
}
