package portmap

import (
	"bytes"
	"context"
	"testing"

	"rubus/nfsexport/sunrpc"
	"rubus/nfsexport/xdr"
)

// list is what a server's port mapper knows.
func list() []Mapping {
	return []Mapping{{100003, 3, TCP, 2049}, {100005, 3, TCP, 20048}, {100005, 3, UDP, 20049}}
}

func words(values ...uint32) []byte {
	var w xdr.Writer
	for _, v := range values {
		w.Uint32(v)
	}
	return w.Buf
}

// call runs one procedure.
func call(proc uint32, args []byte) ([]byte, sunrpc.Status) {
	var w xdr.Writer
	c := sunrpc.Call{Program: Number, Version: Version, Procedure: proc, Args: xdr.NewReader(args)}
	st := New(list()).Serve(context.Background(), &c, &w)
	return w.Buf, st
}

func TestProcedures(t *testing.T) {
	for _, tc := range []struct {
		name string
		proc uint32
		args []byte
		want []byte
		st   sunrpc.Status
	}{
		{"null", procNull, nil, nil, sunrpc.Success},
		{"port of NFS", procGetPort, words(100003, 3, 6, 0), words(2049), sunrpc.Success},
		{"port of NFS over UDP", procGetPort, words(100003, 3, 17, 0), words(0), sunrpc.Success},
		{"port of MOUNT", procGetPort, words(100005, 3, 6, 0), words(20048), sunrpc.Success},
		{"port of MOUNT over UDP", procGetPort, words(100005, 3, 17, 9), words(20049), sunrpc.Success},
		{"port of another version", procGetPort, words(100005, 1, 6, 0), words(20048), sunrpc.Success},
		{"port of NLM", procGetPort, words(100021, 4, 6, 0), words(0), sunrpc.Success},
		{"port, cut off", procGetPort, words(100003, 3, 6), nil, sunrpc.GarbageArgs},
		{"set", procSet, words(100003, 3, 6, 666), words(0), sunrpc.Success},
		{"unset", procUnset, words(100003, 3, 6, 0), words(0), sunrpc.Success},
		{"set, cut off", procSet, nil, nil, sunrpc.GarbageArgs},
		{
			"dump", procDump, nil,
			words(1, 100003, 3, 6, 2049, 1, 100005, 3, 6, 20048, 1, 100005, 3, 17, 20049, 0), sunrpc.Success,
		},
		{"callit", procCallIt, words(100003, 3, 0, 0), nil, sunrpc.ProcUnavail},
		{"beyond", 6, nil, nil, sunrpc.ProcUnavail},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, st := call(tc.proc, tc.args)
			if st != tc.st || st == sunrpc.Success && !bytes.Equal(got, tc.want) {
				t.Errorf("%v, got % x, want %v, % x", st, got, tc.st, tc.want)
			}
		})
	}
	if low, high := New(nil).Versions(); low != 2 || high != 2 {
		t.Errorf("versions %d to %d", low, high)
	}
}

// FuzzProcedures gives any arguments to any procedure.
func FuzzProcedures(f *testing.F) {
	f.Add(uint32(procGetPort), words(100003, 3, 6, 0))
	f.Add(uint32(procSet), words(100003, 3, 6, 2049))
	f.Add(uint32(procDump), []byte{})
	f.Add(uint32(procCallIt), words(100005, 3, 1, 4, 0))
	f.Fuzz(func(t *testing.T, proc uint32, args []byte) {
		if got, st := call(proc%8, args); st == sunrpc.Success && len(got) > 4+20*len(list()) {
			t.Fatalf("results of %d bytes", len(got))
		}
	})
}
