package mount3

import (
	"bytes"
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rubus/nfsexport/sunrpc"
	"rubus/nfsexport/xdr"
)

// mounter is a Mounter with one root.
func mounter(ctx context.Context, path string, peer netip.AddrPort) ([]byte, Status) {
	switch path {
	case "/5b154510":
		return []byte("handle56"), OK
	case "/":
		return nil, ErrAcces
	case "/preparing":
		<-ctx.Done()
		return nil, Later
	case "/broken":
		return make([]byte, 65), OK
	case "/who":
		return []byte(peer.String()), OK
	}
	return nil, ErrNoEnt
}

// call runs one procedure.
func call(proc uint32, args []byte) ([]byte, sunrpc.Status, uint32) {
	var w xdr.Writer
	c := sunrpc.Call{
		Peer: netip.MustParseAddrPort("10.0.0.2:801"), Program: Number, Version: Version, Procedure: proc,
		Args: xdr.NewReader(args),
	}
	st := New(MounterFunc(mounter), time.Millisecond).Serve(context.Background(), &c, &w)
	return w.Buf, st, c.Result
}

// path is the argument of MNT.
func path(s string) []byte {
	var w xdr.Writer
	w.String(s)
	return w.Buf
}

// words is a reply of words and, in the place of a string, opaque data.
func words(values ...any) []byte {
	var w xdr.Writer
	for _, v := range values {
		switch v := v.(type) {
		case Status:
			w.Uint32(uint32(v))
		case int:
			w.Uint32(uint32(v))
		case string:
			w.String(v)
		}
	}
	return w.Buf
}

func TestProcedures(t *testing.T) {
	root := words(OK, "handle56", 1, 1)
	for _, tc := range []struct {
		name string
		proc uint32
		args []byte
		want []byte
		st   sunrpc.Status
	}{
		{"null", procNull, nil, nil, sunrpc.Success},
		{"mnt", procMnt, path("/5b154510"), root, sunrpc.Success},
		{"mnt with slashes", procMnt, path("/5b154510//"), root, sunrpc.Success},
		{"mnt of the peer", procMnt, path("/who"), words(OK, "10.0.0.2:801", 1, 1), sunrpc.Success},
		{"mnt of nothing", procMnt, path("/other"), words(ErrNoEnt), sunrpc.Success},
		{"mnt of all", procMnt, path("//"), words(ErrAcces), sunrpc.Success},
		{"mnt of what is not ready", procMnt, path("/preparing"), nil, sunrpc.NoReply},
		{"mnt with a bad handle", procMnt, path("/broken"), words(ErrServerFault), sunrpc.Success},
		{"mnt without a path", procMnt, path(""), words(ErrInval), sunrpc.Success},
		{"mnt with NUL", procMnt, path("/5b154510\x00"), words(ErrInval), sunrpc.Success},
		{"mnt of 1,024 bytes", procMnt, path(strings.Repeat("x", 1024)), words(ErrNoEnt), sunrpc.Success},
		{"mnt of 1,025 bytes", procMnt, path(strings.Repeat("x", 1025)), words(ErrNameTooLong), sunrpc.Success},
		{"mnt, cut off", procMnt, path("/5b154510")[:8], nil, sunrpc.GarbageArgs},
		{"mnt, lying", procMnt, []byte{0xff, 0xff, 0xff, 0xff}, nil, sunrpc.GarbageArgs},
		{"dump", procDump, nil, words(0), sunrpc.Success},
		{"umnt", procUmnt, path("/5b154510"), nil, sunrpc.Success},
		{"umnt, cut off", procUmnt, []byte{0, 0}, nil, sunrpc.GarbageArgs},
		{"umntall", procUmntAll, nil, nil, sunrpc.Success},
		{"export", procExport, nil, words(0), sunrpc.Success},
		{"beyond", 6, nil, nil, sunrpc.ProcUnavail},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, st, _ := call(tc.proc, tc.args)
			if st != tc.st || st == sunrpc.Success && !bytes.Equal(got, tc.want) {
				t.Errorf("%v, got % x, want %v, % x", st, got, tc.st, tc.want)
			}
		})
	}
	if _, _, result := call(procMnt, path("/preparing")); Status(result) != Later || Later.String() != "later" {
		t.Errorf("result %d", result)
	}
}

// FuzzProcedures gives any arguments to any procedure.
func FuzzProcedures(f *testing.F) {
	for _, p := range []string{"/5b154510", "", "/", "/a\x00b", strings.Repeat("/", 1030)} {
		f.Add(uint32(procMnt), path(p))
		f.Add(uint32(procUmnt), path(p))
	}
	f.Add(uint32(procExport), []byte{})
	f.Fuzz(func(t *testing.T, proc uint32, args []byte) {
		if got, st, _ := call(proc%7, args); st == sunrpc.Success && len(got) > 4+4+64+8 {
			t.Fatalf("results of %d bytes", len(got))
		}
	})
}
