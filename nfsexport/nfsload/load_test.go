package nfsload

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
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
