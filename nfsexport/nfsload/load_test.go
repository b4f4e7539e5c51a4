package nfsload

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// responder starts one over a file, and gives its address.
func responder(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, bytes.Repeat([]byte{7}, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- Respond(l, file) }()
	t.Cleanup(func() {
		l.Close()
		<-done
		file.Close()
	})
	return l.Addr().String()
}

func TestRun(t *testing.T) {
	for _, c := range []struct {
		name        string
		call        Call
		reply, file int
	}{
		{"small", NFS(0, nil), 28, 0},
		{"large call", Write(make(Handle, 40), 0, make([]byte, 128<<10)), 164, 0},
		{"large answer", Read(make(Handle, 40), 0, 128<<10), 128<<10 + 128, 0},
		{"answer from a file", Read(make(Handle, 40), 0, 1<<20), 1<<20 + 128, 1 << 20},
		{"answer as long as what is looked at", NFS(0, nil), look, 0},
		{"answers that are just dropped, and just not", NFS(0, nil), apart + 1, 0},
		{"call in one piece at most", Write(make(Handle, 40), 0, make([]byte, whole-140)), 164, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := responder(t)
			var conns []*Conn
			for range 3 {
				conn, err := DialResponder(addr, c.reply, c.file)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conns = append(conns, conn)
			}
			calls := make([]Call, 50)
			for i := range calls {
				calls[i] = c.call
			}
			res, err := Run(conns, 8, &Load{Calls: [][]Call{calls}, Once: true}, 0)
			if err != nil {
				t.Fatal(err)
			}
			if res.Calls != 150 || res.Bytes != int64(150*c.reply) || res.P50 <= 0 || res.P99 < res.P50 {
				t.Errorf("%+v, want 150 calls answered with %d bytes each", res, c.reply)
			}
			// At a pace, and all of the calls.
			res, err = Pace(conns, 8, 10000, &Load{Calls: [][]Call{calls}, Once: true}, 0)
			if err != nil || res.Calls != 150 || res.Bytes != int64(150*c.reply) {
				t.Errorf("at a pace: %+v, %v", res, err)
			}
			// Again, for a time.
			if res, err = Run(conns, 8, &Load{Calls: [][]Call{calls[:7]}}, 20*time.Millisecond); err != nil || res.Calls < 3 {
				t.Errorf("%+v, %v", res, err)
			}
		})
	}
}

// What is refused, or fails, ends the run.
func TestRunTells(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer []uint32 // after the mark and the number
	}{
		{"denied", []uint32{1, 1, 1, 1}},
		{"garbage", []uint32{1, 0, 0, 0, 4}},
		{"status", []uint32{1, 0, 0, 0, 0, 70}},
		{"twice", []uint32{1, 0, 0, 0, 0, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				nc, err := l.Accept()
				if err != nil {
					return
				}
				defer nc.Close()
				call := make([]byte, 4096)
				for {
					if _, err := nc.Read(call); err != nil {
						return
					}
					answer := []byte{0x80, 0, 0, byte(4 + 4*len(c.answer))}
					answer = append(answer, call[4:8]...)
					for _, v := range c.answer {
						answer = append(answer, 0, 0, 0, byte(v))
					}
					if c.name == "twice" {
						answer = append(answer, answer...)
					}
					_, _ = nc.Write(answer)
				}
			}()
			conn, err := Dial(l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := Run([]*Conn{conn}, 1, &Load{Calls: [][]Call{{GetAttr(nil)}}}, time.Minute); err == nil {
				t.Error("no error")
			}
		})
	}
}

// A stall of the server counts for all calls that are due in it, also for those that the
// client holds back for it; and so does what each call takes.
func TestPace(t *testing.T) {
	const (
		calls    = 100
		interval = time.Millisecond
		asked    = calls * interval
	)
	for _, c := range []struct {
		name string
		// after is when a server answers call n, from when it took it.
		after func(n int) time.Duration
		// p50 and p99 are what they are at least.
		p50, p99 time.Duration
	}{
		{"at once", func(int) time.Duration { return 0 }, 0, 0},
		{"each takes its time", func(int) time.Duration { return 3 * interval }, 3 * interval, 3 * interval},
		{"one stalls all", func(n int) time.Duration {
			if n == 10 {
				return 2 * asked
			}
			return 0
		}, 2*asked - calls/2*interval, 2*asked - 15*interval},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := slowServer(t, c.after)
			res, err := Pace([]*Conn{conn}, 4, float64(time.Second/interval), &Load{Calls: [][]Call{{GetAttr(nil)}}}, asked)
			if err != nil {
				t.Fatal(err)
			}
			if res.Calls != calls {
				t.Errorf("%d calls were made, want the %d that were due", res.Calls, calls)
			}
			if res.P50 < c.p50 || res.P99 < c.p99 {
				t.Errorf("half took %v, all but one in a hundred %v, want %v and %v at least", res.P50, res.P99, c.p50, c.p99)
			}
			if last := asked - interval; res.Elapsed < last {
				t.Errorf("over in %v, before the last call was due", res.Elapsed)
			}
		})
	}
}

// The calls go on for as long as something else does, which begins when they are under way.
func TestMeanwhile(t *testing.T) {
	addr := responder(t)
	wrong := errors.New("wrong")
	var conns []*Conn
	for range 3 {
		conn, err := DialResponder(addr, 28, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	other, err := DialResponder(addr, 28, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, c := range []struct {
		name  string
		check func(*Reply) error
		f     error
	}{
		{"both well", nil, nil},
		{"the other fails", nil, wrong},
		{"the calls fail", func(*Reply) error { return wrong }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			answered := new(atomic.Int64)
			load := &Load{Calls: [][]Call{{NFS(0, nil)}}, Check: func(r *Reply) error {
				answered.Add(1)
				if c.check != nil {
					return c.check(r)
				}
				return nil
			}}
			began := int64(0)
			res, err := Meanwhile(conns, 1, load, func() error {
				began = answered.Load()
				for n := 0; answered.Load() < began+100; n++ {
					if n == 100000 {
						return errors.New("the calls do not go on")
					}
					if _, err := other.Do(NFS(0, nil)); err != nil {
						return err
					}
				}
				return c.f
			})
			if c.check != nil {
				if !errors.Is(err, wrong) || began != 0 {
					t.Errorf("%v, and the other began after %d answers", err, began)
				}
				return
			}
			if !errors.Is(err, c.f) || (err == nil) != (c.f == nil) || began < 3 {
				t.Errorf("%v, and the other began after %d answers, want 3 at least", err, began)
			}
			if res == nil || int64(res.Calls) != answered.Load() || res.Calls < 103 {
				t.Errorf("%+v of %d", res, answered.Load())
			}
		})
	}
}

// slowServer gives a connection to one that answers GETATTRs one after the other, call n
// so long after it took it.
func slowServer(t *testing.T, after func(n int) time.Duration) *Conn {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		call := make([]byte, len(GetAttr(nil)))
		for n := 0; ; n++ {
			if _, err := io.ReadFull(nc, call); err != nil {
				return
			}
			time.Sleep(after(n))
			answer := append([]byte{0x80, 0, 0, 28}, call[4:8]...)
			answer = append(answer, 0, 0, 0, 1)
			if _, err := nc.Write(append(answer, make([]byte, 20)...)); err != nil {
				return
			}
		}
	}()
	conn, err := Dial(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		l.Close()
		<-ended
	})
	return conn
}
