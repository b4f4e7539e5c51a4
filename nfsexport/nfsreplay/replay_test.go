package nfsreplay

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/handlefs"
	"rubus/nfsexport/mount3"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/nfstest"
	"rubus/nfsexport/unfsd"
	"rubus/nfsexport/xdr"
)

func TestMain(m *testing.M) {
	unix.Umask(0) // the server's
	os.Exit(m.Run())
}

// exports are two roots, made alike, behind our server.
type exports struct {
	t     *testing.T
	roots [2]*nfstest.Overlay
	fs    *handlefs.FS
}

// Mount implements mount3.Mounter: "/0" and "/1".
func (e *exports) Mount(_ context.Context, path string, _ netip.AddrPort) ([]byte, mount3.Status) {
	h, err := e.fs.RootHandle(nfsexport.ID(path[1]))
	if err != nil {
		return nil, mount3.ErrNoEnt
	}
	return h, mount3.OK
}

func newExports(t *testing.T) *exports {
	t.Helper()
	e := &exports{t: t}
	var err error
	if e.fs, err = handlefs.New(handlefs.Options{Key: [32]byte{1}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.fs.Close() })
	for i := range e.roots {
		e.roots[i] = nfstest.NewOverlay(t, t.TempDir(), func(lower string) {
			for k := range 40 {
				name := filepath.Join(lower, "list", fmt.Sprintf("entry-%02d", k))
				_ = os.MkdirAll(filepath.Dir(name), 0o755)
				if err := os.WriteFile(name, []byte(strings.Repeat("x", k)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
		x := nfsexport.Export{
			ID: nfsexport.ID('0' + i), Name: fmt.Sprint(i), Path: fmt.Sprintf("/%d", i), Dir: e.roots[i].Root, Upper: e.roots[i].Upper,
			State: nfsexport.Ready, Client: netip.MustParseAddr("127.0.0.1"), InsecurePorts: true, Activity: new(nfsexport.Activity),
		}
		if err := e.fs.Publish(x); err != nil {
			t.Fatal(err)
		}
	}
	b := unfsd.New(unfsd.Config{Store: e.fs, Mounter: e, NoPortmap: true})
	if err := b.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return e
}

func dial(t *testing.T, port int) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (e *exports) mount(i int) []byte {
	e.t.Helper()
	c := dial(e.t, 20048)
	defer c.Close()
	h, err := Mount(c, fmt.Sprintf("/%d", i))
	if err != nil {
		e.t.Fatal(err)
	}
	return h
}

func recordingOf(t *testing.T, frames [][]byte) *Recording {
	t.Helper()
	var r Recorder
	for _, f := range frames {
		if err := r.Frame(f); err != nil {
			t.Fatal(err)
		}
	}
	rec, err := r.Recording()
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// listing is what lies below a directory, with contents.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintf(&out, "%s %v", strings.TrimPrefix(name, dir), d.Type())
		if d.Type().IsRegular() {
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " %q", b)
		}
		out.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestReplay records what a client does to one root, from packets that come late, twice
// and in another order, and does it again to another root: both are the same then.
func TestReplay(t *testing.T) {
	e := newExports(t)
	c := &client{t: t, conn: dial(t, 2049)}
	c.work(e.mount(0))
	plain := recordingOf(t, c.frames)
	// The network: neighbours change places, each fifth packet comes twice.
	var frames [][]byte
	rng := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < len(c.frames); i++ {
		f := c.frames[i]
		if bytes.Equal(f[34:38], c.frames[min(i+1, len(c.frames)-1)][34:38]) && i > 0 && i+1 < len(c.frames) && rng.IntN(2) == 0 {
			frames = append(frames, c.frames[i+1])
			i++
		}
		if frames = append(frames, f); rng.IntN(5) == 0 {
			frames = append(frames, f)
		}
	}
	rec := recordingOf(t, frames)
	if a, b := fmt.Sprint(plain.Calls), fmt.Sprint(rec.Calls); a != b {
		t.Errorf("another recording of packets out of order:\n%s\n%s", a, b)
	}
	var file bytes.Buffer
	if err := rec.Write(&file); err != nil {
		t.Fatal(err)
	}
	rec, err := Read(&file)
	if err != nil {
		t.Fatal(err)
	}
	inFlight := false
	for i, call := range rec.Calls {
		inFlight = inFlight || i > 0 && call.Proc == nfs3.ProcRead && len(call.Await) == 0
		if len(call.Await) > 2 {
			t.Errorf("call %d waits for %v", i, call.Await)
		}
	}
	if !inFlight {
		t.Error("no two calls are in flight at once")
	}
	res, err := rec.Replay(t.Context(), dial(t, 2049), e.mount(1))
	if err != nil {
		t.Fatal(err)
	}
	if res.Differ != 0 || res.Calls != len(rec.Calls)+res.Extra {
		t.Errorf("%+v of %d", res, len(rec.Calls))
	}
	if a, b := listing(t, e.roots[0].Root), listing(t, e.roots[1].Root); a != b {
		t.Errorf("the roots differ:\n%s\n%s", a, b)
	}
	// Once more over the same root: what is there already is told.
	if res, err = rec.Replay(t.Context(), dial(t, 2049), e.mount(1)); err != nil || res.Differ == 0 || !strings.Contains(res.First[0], "status 17, recorded 0") {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestReadRefuses(t *testing.T) {
	good := func() *Recording {
		return &Recording{
			Nodes: []Node{{-1, ""}, {0, "a"}}, Creds: []Cred{{}},
			Calls: []Call{{Proc: nfs3.ProcLookup, File2: -1, From: -1, Made: []int{1}}, {Await: []int{0}, Proc: nfs3.ProcGetAttr, File: 1, File2: -1, From: -1}},
		}
	}
	if err := good().check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Recording){
		"a file":          func(r *Recording) { r.Calls[1].File = 2 },
		"a parent":        func(r *Recording) { r.Nodes[1].Parent = 7 },
		"a credential":    func(r *Recording) { r.Calls[0].Cred = 1 },
		"the future":      func(r *Recording) { r.Calls[1].Await[0] = 1 },
		"a procedure":     func(r *Recording) { r.Calls[1].Proc = nfs3.Procs },
		"what is made":    func(r *Recording) { r.Calls[0].Made[0] = -1 },
		"what is written": func(r *Recording) { r.Calls[1].Proc = nfs3.ProcWrite },
		"a cookie":        func(r *Recording) { r.Calls[1].From = 1 },
	} {
		r := good()
		spoil(r)
		var b bytes.Buffer
		if err := r.Write(&b); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(&b); err == nil {
			t.Errorf("%s that is not there was taken", name)
		}
	}
	if _, err := Read(strings.NewReader("no recording")); err == nil {
		t.Error("text was taken")
	}
}

// TestReplayWaits: a call is made when the answers are there that its client had, and no later.
func TestReplayWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		call := func(await ...int) Call {
			return Call{Await: await, Proc: nfs3.ProcGetAttr, File2: -1, From: -1}
		}
		r := &Recording{Creds: []Cred{{}}, Nodes: make([]Node, 1), Calls: []Call{call(), call(), call(1), call(0)}}
		board, server := net.Pipe()
		defer board.Close()
		var calls [][]byte // their numbers
		next := func() bool {
			mark := make([]byte, 4)
			_ = server.SetReadDeadline(time.Now().Add(time.Second)) // of the bubble's clock
			if _, err := io.ReadFull(server, mark); err != nil {
				return false
			}
			b := make([]byte, binary.BigEndian.Uint32(mark)&^(1<<31))
			if _, err := io.ReadFull(server, b); err != nil {
				t.Error(err)
			}
			calls = append(calls, b[:4])
			return true
		}
		answer := func(n int) {
			var w xdr.Writer
			w.Uint32(1<<31 | 24 + 4 + 84)
			w.Buf = append(w.Buf, calls[n]...)
			w.Uint32(1)
			w.Extend(20 + 84)
			if _, err := server.Write(w.Buf); err != nil {
				t.Error(err)
			}
		}
		done := make(chan error, 1)
		go func() {
			_, err := r.Replay(t.Context(), board, []byte("root"))
			done <- err
		}()
		for _, step := range []struct{ answer, calls int }{{-1, 2}, {0, 2}, {1, 4}, {3, 4}, {2, 4}} {
			if step.answer >= 0 {
				answer(step.answer)
			}
			for next() {
			}
			if len(calls) != step.calls {
				t.Errorf("%d calls are made after the answer to %d, want %d", len(calls), step.answer, step.calls)
				return
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
