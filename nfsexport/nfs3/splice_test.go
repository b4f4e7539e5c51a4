package nfs3

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rubus/nfsexport/sunrpc"
)

// splicing is an FS whose reads come from a file without a copy.
type splicing struct {
	*fakeFS
	fd int
}

// Read asks for more than there may be: it is not given.
func (f splicing) Read(c *Call, _ []byte, off uint64, buf []byte, a *PostAttr) (int, bool, Status) {
	*a = f.post
	n := 0
	if c.Splice != nil {
		n = c.Splice(f.fd, int64(off), len(buf)+100)
	}
	return n, f.eof, f.status
}

// GetAttr is not the call for it.
func (f splicing) GetAttr(c *Call, _ []byte, _ *Attr) Status {
	if c.Splice(f.fd, 0, 4096) != 0 {
		return ErrServerFault
	}
	return OK
}

// TestReadSplices: the reply to a READ that ends in a file's pages is the one that a
// buffer would have made, without attributes, too; and one that fails has none of them.
func TestReadSplices(t *testing.T) {
	data := []byte(strings.Repeat("0123456789abcdef", 5000))
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, tc := range []struct {
		name       string
		post       bool
		status     Status
		off        uint64
		count, got int
	}{
		{"whole", true, OK, 0, 65536, 65536},
		{"without attributes", false, OK, 0, 65536, 65536},
		{"not of four", true, OK, 3, 20001, 20001},
		{"to the end", true, OK, uint64(len(data)) - 20002, 65536, 20002},
		{"failed", true, ErrIO, 0, 65536, 0},
		{"failed without attributes", false, ErrIO, 0, 65536, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fake := sample()
			fake.post.OK, fake.status = tc.post, tc.status
			copied := *fake
			copied.data = data[tc.off : tc.off+uint64(tc.got)]
			conn := serve(t, sunrpc.Config{Programs: []sunrpc.Program{NewProgram(splicing{fake, int(file.Fd())})}})
			call := rpcMessage(ProcRead, args("fh", tc.off, tc.count))
			for range 2 {
				if _, err := conn.Write(call); err != nil {
					t.Fatal(err)
				}
				var mark [4]byte
				if _, err := io.ReadFull(conn, mark[:]); err != nil {
					t.Fatal(err)
				}
				reply := make([]byte, binary.BigEndian.Uint32(mark[:])&^(1<<31))
				if _, err := io.ReadFull(conn, reply); err != nil {
					t.Fatal(err)
				}
				want, _ := run(t, &copied, ProcRead, args("fh", tc.off, tc.count))
				const header = 6 * 4
				if got := toWords(reply[header:]); len(got) != len(want) || !bytes.Equal(wordsOf(got), wordsOf(want)) {
					t.Fatalf("%d words, want %d", len(got), len(want))
				}
			}
			if _, err := conn.Write(rpcMessage(ProcGetAttr, args("fh"))); err != nil {
				t.Fatal(err)
			}
			reply := make([]byte, 4+24+4)
			if _, err := io.ReadFull(conn, reply); err != nil || binary.BigEndian.Uint32(reply[28:]) != 0 {
				t.Errorf("GETATTR: %x, %v", reply, err)
			}
		})
	}
}

// wordsOf is the inverse of toWords.
func wordsOf(words []uint32) (b []byte) {
	for _, w := range words {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

// rpcMessage is a call of root's, as a record.
func rpcMessage(proc uint32, args []byte) []byte {
	const call, rpc, verifier = 0, 2, 0
	cred := []uint32{0, 0, 0, 0, 0} // stamp, machine, uid, gid, groups
	words := []uint32{1, call, rpc, Number, Version, proc, sunrpc.AuthSys, uint32(4 * len(cred))}
	b := append(wordsOf(append(append(words, cred...), verifier, 0)), args...)
	return append(wordsOf([]uint32{uint32(len(b)) | 1<<31}), b...)
}
