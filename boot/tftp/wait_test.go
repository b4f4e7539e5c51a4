package tftp

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

var lan = limits{250 * time.Millisecond, 5 * time.Millisecond, time.Second}

// TestWaits follows the numbers of RFC 6298 by hand.
func TestWaits(t *testing.T) {
	var w waits
	want := func(step string, d time.Duration) {
		t.Helper()
		if got := w.next(lan); got != d {
			t.Errorf("%s: wait %v, want %v", step, got, d)
		}
	}
	want("nothing measured", 250*time.Millisecond)
	w.expired(lan)
	want("expired", 500*time.Millisecond)
	for range 3 {
		w.expired(lan)
	}
	want("expired often", time.Second)
	w.measured(20*time.Millisecond, lan) // SRTT 20, RTTVAR 10
	want("first", 60*time.Millisecond)
	w.measured(36*time.Millisecond, lan) // RTTVAR 10+(16-10)/4 = 11.5, SRTT 22
	want("second", 68*time.Millisecond)
	w.expired(lan)
	want("too short", 136*time.Millisecond)
	w.settle(lan)
	want("the next file", 68*time.Millisecond)
	for range 100 {
		w.measured(300*time.Microsecond, lan)
	}
	want("a LAN", 5*time.Millisecond)
	for range 100 {
		w.measured(3*time.Second, lan)
	}
	want("the moon", time.Second)
	w = waits{}
	w.measured(0, lan)
	if w.smooth <= 0 {
		t.Error("an answer at once was not measured")
	}
	w = waits{}
	w.expired(lan)
	w.settle(lan)
	want("never answered", 250*time.Millisecond)
}

// air is a socket to one board that acknowledges in order, with time and loss.
type air struct {
	rtt func() time.Duration
	// lost says whether one packet, either way, is lost.
	lost func() bool
	// reacks: the board acknowledges a block again that comes again.
	reacks bool

	kick chan struct{}
	done chan struct{}

	mu     sync.Mutex
	next   uint16 // the block the board waits for; 0: the options
	queue  []arriving
	sends  []time.Time
	errors int
}

type arriving struct {
	at     time.Time
	packet []byte
}

var airBoard = netip.MustParseAddrPort("10.0.0.17:49152")

func (a *air) receive(take func([]message, bool)) error {
	for {
		in := a.arrived()
		if len(in) > 0 {
			take(in, true)
			continue
		}
		timer := time.NewTimer(time.Hour)
		a.mu.Lock()
		if len(a.queue) > 0 {
			timer.Reset(time.Until(a.queue[0].at))
		}
		a.mu.Unlock()
		select {
		case <-timer.C:
		case <-a.kick:
		case <-a.done:
			return net.ErrClosed
		}
		timer.Stop()
	}
}

// arrived takes what is there by now.
func (a *air) arrived() (in []message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for now := time.Now(); len(a.queue) > 0 && !now.Before(a.queue[0].at); a.queue = a.queue[1:] {
		in = append(in, message{airBoard, a.queue[0].packet})
	}
	return in
}

func (a *air) waiting() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.queue) > 0 && !time.Now().Before(a.queue[0].at)
}

func (a *air) wake() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

func (a *air) close()   { close(a.done) }
func (a *air) release() {}

func (a *air) sendAll(out []message) {
	for _, m := range out {
		a.send(m)
	}
}

// send is how a packet reaches the board, and its answer the air.
func (a *air) send(m message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.wake()
	a.sends = append(a.sends, time.Now())
	number := uint16(0)
	if m.data[1] == opData {
		number = binary.BigEndian.Uint16(m.data[2:])
	}
	if a.lost() {
		return
	}
	switch {
	case number == a.next:
		a.next++
	case number != a.next-1:
		a.errors++
		return
	case !a.reacks:
		return
	}
	if a.lost() {
		return
	}
	a.queue = append(a.queue, arriving{time.Now().Add(a.rtt()), binary.BigEndian.AppendUint16([]byte{0, opAck}, number)})
}

// through sends a file of a size and says how long that took.
func (a *air) through(t *testing.T, size int64) (f *flight, res result, took time.Duration) {
	a.kick, a.done = make(chan struct{}, 1), make(chan struct{})
	l := newLane(a, lan, 10*time.Second)
	ended := make(chan struct{})
	go func() { defer close(ended); l.run() }()
	tr := &transfer{
		lane: l, file: memFile{zeros{}, size}, answer: []option{{"tsize", "1"}}, block: 1468,
		flight: flight{to: airBoard, moved: new(atomic.Bool)}, overtaken: new(atomic.Bool), disk: func(int) {},
	}
	begin := time.Now()
	res = tr.run(t.Context())
	took = time.Since(begin)
	l.close()
	<-ended
	return &tr.flight, res, took
}

// TestLossInTime: with 2 % of all packets lost either way an EEPROM gets a
// kernel of 33 MB well within the 30 s that it gives one file; on a wire that
// is slower than any LAN's, too.
func TestLossInTime(t *testing.T) {
	for name, c := range map[string]struct {
		rtt, jitter, most time.Duration
	}{
		"LAN":        {300 * time.Microsecond, 100 * time.Microsecond, 15 * time.Second},
		"slow board": {600 * time.Microsecond, 300 * time.Microsecond, 25 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(7, 8))
				a := &air{
					reacks: true, lost: func() bool { return random.Float64() < 0.02 },
					rtt: func() time.Duration { return c.rtt + rand.N(c.jitter) },
				}
				const size = 33 << 20
				f, res, took := a.through(t, size)
				t.Logf("%v for %d bytes, %d packets sent again, RTT %v", took, f.bytes, f.resent, f.waits.smooth)
				if res.outcome != OK || f.bytes != size || a.errors > 0 {
					t.Errorf("%+v, %d bytes, %d out of order", res, f.bytes, a.errors)
				}
				// About 4 % of the exchanges lose one of their two packets.
				if lost := float64(f.resent) / (size / 1468); lost < 0.03 || lost > 0.06 {
					t.Errorf("%d packets were sent again", f.resent)
				}
				if took > c.most {
					t.Errorf("it took %v, more than %v", took, c.most)
				}
			})
		})
	}
}

// TestBackoff: a board that is gone is sent fewer and fewer packets.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		a := &air{rtt: func() time.Duration { return time.Millisecond }, lost: func() bool { n++; return n > 40 }}
		_, res, _ := a.through(t, 1<<20)
		if res.outcome != Timeout {
			t.Fatalf("%+v", res)
		}
		var gaps []time.Duration
		last := a.sends[20:]
		for i := 1; i < len(last); i++ {
			gaps = append(gaps, last[i].Sub(last[i-1]).Round(time.Millisecond))
		}
		ms := time.Millisecond
		want := []time.Duration{5 * ms, 10 * ms, 20 * ms, 40 * ms, 80 * ms, 160 * ms, 320 * ms, 640 * ms}
		for range 8 {
			want = append(want, time.Second)
		}
		if !slices.Equal(gaps, want) {
			t.Errorf("gaps %v, want %v", gaps, want)
		}
	})
}

// TestLastAck: the acknowledgement of a file's last block may be lost, and who
// sent it has other things to do by then. The file is there all the same.
func TestLastAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		// Options, two blocks: the sixth packet is the last acknowledgement.
		a := &air{rtt: func() time.Duration { return time.Millisecond }, lost: func() bool { n++; return n == 6 }}
		f, res, took := a.through(t, 2000)
		if res.outcome != OK || res.err == nil || took.Round(time.Second) != 10*time.Second || f.bytes != 1468 {
			t.Errorf("%+v after %v, %d bytes", res, took, f.bytes)
		}
		n = 0
		a = &air{rtt: a.rtt, lost: func() bool { n++; return n == 4 }}
		if _, res, _ := a.through(t, 2000); res.outcome != Timeout {
			t.Errorf("the first block: %+v", res)
		}
	})
}

// TestSuddenlySlow: when answers take longer all at once, the wait follows
// within a block: few packets are sent twice (Karn's algorithm).
func TestSuddenlySlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		a := &air{lost: func() bool { return false }, rtt: func() time.Duration {
			if n++; n < 100 {
				return 300 * time.Microsecond
			}
			return 50 * time.Millisecond
		}}
		f, res, _ := a.through(t, 1<<20)
		if res.outcome != OK || f.resent > 6 {
			t.Errorf("%+v, %d packets sent again", res, f.resent)
		}
	})
}

// quiet is a socket that counts what is sent.
type quiet struct {
	sent     atomic.Int32
	full     atomic.Bool // packets lie in it
	released atomic.Int32
}

func (q *quiet) receive(func([]message, bool)) error { return net.ErrClosed }
func (q *quiet) waiting() bool                       { return q.full.Load() }
func (q *quiet) sendAll(all []message)               { q.sent.Add(int32(len(all))) }
func (q *quiet) send(message)                        { q.sent.Add(1) }
func (q *quiet) close()                              {}
func (q *quiet) release()                            { q.released.Add(1) }

// Nothing is sent again whose answer may lie in the socket, for as long as a flood
// needs; and when the lane is closed, nothing at all.
func TestOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sock := new(quiet)
		sock.full.Store(true)
		l := newLane(sock, lan, 10*time.Second)
		f := &flight{to: airBoard, moved: new(atomic.Bool)}
		l.add(f)
		if err := l.begin(f, single([]byte("a packet")), nil); err != nil {
			t.Fatal(err)
		}
		sent := func(what string, want int32) {
			t.Helper()
			l.mu.Lock()
			due := f.deadline
			l.mu.Unlock()
			time.Sleep(time.Until(due) + time.Millisecond)
			synctest.Wait()
			if n := sock.sent.Load(); n != want {
				t.Fatalf("%s: %d packets were sent, want %d", what, n, want)
			}
		}
		sent("answers lie in the socket", 1)
		l.take(nil, false)
		sent("and more than a lot", 1)
		l.take(nil, true)
		sent("they are taken, and it is not among them", 2)
		sent("once more", 2)
		for range 17 {
			l.take(nil, false)
		}
		sent("a flood", 3)
		sock.full.Store(false)
		l.take(nil, true)
		sent("nothing lies in the socket", 5) // what was overdue, and that
		ack := []message{{airBoard, []byte{0, opAck, 0, 0}}}
		l.take(ack, true)
		sent("the answer is there", 5)
		if err := l.begin(f, single([]byte("a packet")), nil); err != nil {
			t.Fatal(err)
		}
		l.close()
		sent("the lane is closed", 6)
	})
}

// A lane whose socket fails again and again ends: it gives its descriptor back, once, and sends
// nothing any more, whoever still has the lane.
func TestSocketFails(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	sock, err := newUDPSocket(netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	// Nothing can be received from a pipe, and it says when it is closed.
	if err := errors.Join(unix.Dup3(int(out.Fd()), sock.fd, unix.O_CLOEXEC), out.Close()); err != nil {
		t.Fatal(err)
	}
	l := newLane(sock, lan, 10*time.Second)
	l.run()
	if l.isOpen() || !errors.Is(l.failed, unix.ENOTSOCK) {
		t.Errorf("the lane failed by %v", l.failed)
	}
	if err := in.SetReadDeadline(time.Now().Add(time.Second)); err != nil { // it is closed by now
		t.Fatal(err)
	}
	if _, err := in.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the descriptor is still open: %v", err)
	}

	q := new(quiet)
	l = newLane(q, lan, 10*time.Second)
	l.run()
	f := &flight{to: airBoard, moved: new(atomic.Bool)}
	l.add(f)
	if err := l.begin(f, single([]byte("a packet")), nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a transfer of a lane that failed: %v", err)
	}
	l.sendError(airBoard, codeUndefined, "Read error")
	l.close()
	if sent, released := q.sent.Load(), q.released.Load(); sent != 0 || released != 1 {
		t.Errorf("%d packets were sent, and the socket given back %d times", sent, released)
	}
}
