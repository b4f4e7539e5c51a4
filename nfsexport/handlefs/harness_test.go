package handlefs

import (
	"log/slog"
	"net/netip"
	"testing"

	"rubus/nfsexport"
	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/nfstest"
)

func TestMain(m *testing.M) { nfstest.Main(m) }

var board = netip.MustParseAddrPort("192.0.2.7:700")

// testKey is any key but zeros.
var testKey = [32]byte{1, 2, 3}

// world is an FS with one published overlay.
type world struct {
	*FS
	ov   *nfstest.Overlay
	exp  nfsexport.Export
	root []byte
	call nfs3.Call
}

func newFS(t testing.TB, opts Options) *FS {
	t.Helper()
	opts.Key = testKey
	opts.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	fs, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fs.Close() })
	return fs
}

// newWorld publishes a new overlay in base with an FS of its own.
func newWorld(t testing.TB, base string, opts Options, async bool, fill func(lower string)) *world {
	t.Helper()
	w := &world{ov: nfstest.NewOverlay(t, base, fill), call: nfs3.Call{Peer: board}}
	w.FS = newFS(t, opts)
	w.exp = nfsexport.Export{
		ID: 0x1122334455667788, Name: "5b154510", Path: "/5b154510", Dir: w.ov.Root, Upper: w.ov.Upper, Index: w.ov.Work + "/index", Layers: []string{w.ov.Lower}, State: nfsexport.Ready,
		Client: board.Addr(), Async: async, Activity: new(nfsexport.Activity),
	}
	w.publish(t)
	return w
}

func (w *world) publish(t testing.TB) {
	t.Helper()
	if err := w.Publish(w.exp); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.root, err = w.RootHandle(w.exp.ID); err != nil {
		t.Fatal(err)
	}
}

// uncache has the object of k opened anew by the next call.
func (w *world) uncache(k *fhandle.Key) {
	r := (*w.table.Load())[w.exp.ID].root
	if obj := w.cache.get(k, r); obj != nil {
		w.cache.dropObject(obj)
		w.cache.release(obj)
	}
}

func (w *world) client() nfstest.Client { return nfstest.Direct(w, w.root, board) }
