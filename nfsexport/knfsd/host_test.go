package knfsd

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mapper is a port mapper that knows one port of everything.
func mapper(t *testing.T, port uint32) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			call := make([]byte, 60) // GETPORT with its mark
			if _, err := io.ReadFull(conn, call); err == nil {
				// An accepted reply (RFC 5531 section 9): the call's number, and the port.
				reply := append([]byte{0x80, 0, 0, 28}, call[4:8]...)
				reply = append(reply, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
				_, _ = conn.Write(binary.BigEndian.AppendUint32(reply, port))
			}
			conn.Close()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

// What the host lacks is said one thing at a time, with what to do about it.
func TestCheck(t *testing.T) {
	const all = "-2 +3 +4 +4.1 +4.2\n"
	listens := "tcp 2049\ntcp 2049\n"
	for _, c := range []struct {
		name                        string
		noTool                      bool
		threads, versions, portlist string
		mount                       uint32 // the port that rpcbind knows; 1: there is no rpcbind
		want, do                    string
	}{
		{"all is there", false, "8\n", all, listens, 20048, "", ""},
		{"no exportfs", true, "8\n", all, listens, 20048, "no exportfs", "apt install nfs-kernel-server"},
		{"no nfsd", false, "", all, listens, 20048, "not loaded", "apt install nfs-kernel-server"},
		{"not started", false, "0\n", all, listens, 20048, "not started", "systemctl enable --now nfs-server"},
		{"NFSv4 alone", false, "8\n", "-3 +4 +4.1\n", listens, 20048, "version 3", "vers3=y"},
		{"UDP alone", false, "8\n", all, "udp 2049\n", 20048, "does not listen to TCP", "tcp=y"},
		{"no rpcbind", false, "8\n", all, listens, 1, "no rpcbind answers", "rpcbind"},
		{"no mountd", false, "8\n", all, listens, 0, "no rpc.mountd", "nfs-server"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			put := func(name, text string, mode os.FileMode) {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
					t.Fatal(err)
				}
			}
			if c.threads != "" {
				put("threads", c.threads, 0o600)
			}
			put("versions", c.versions, 0o600)
			put("portlist", c.portlist, 0o600)
			if !c.noTool {
				put("exportfs", "#!/bin/sh\n", 0o700)
			}
			t.Setenv("PATH", dir)
			at := netip.MustParseAddrPort("127.0.0.1:1") // where nobody listens
			if c.mount != 1 {
				at = mapper(t, c.mount)
			}
			err := check(t.Context(), dir, at)
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var lack *Lack
			if !errors.As(err, &lack) {
				t.Fatalf("%v, want a Lack", err)
			}
			if !strings.Contains(lack.What, c.want) || !strings.Contains(lack.Hint(), c.do) {
				t.Errorf("%v, hint %q; want %q and %q", err, lack.Hint(), c.want, c.do)
			}
		})
	}
}
