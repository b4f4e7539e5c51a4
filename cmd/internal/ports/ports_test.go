package ports

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
)

func TestHolderNamesUs(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		t.Run(network, func(t *testing.T) {
			var addr netip.AddrPort
			if network == "tcp" {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				addr = netip.MustParseAddrPort(l.Addr().String())
			} else {
				c, err := net.ListenPacket("udp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				addr = netip.MustParseAddrPort(c.LocalAddr().String())
			}
			want := fmt.Sprintf("(pid %d)", os.Getpid())
			if got := Holder(network, addr); !strings.HasSuffix(got, want) {
				t.Errorf("holder of %s = %q, want ...%s", addr, got, want)
			}
			// The wildcard is in the way of nothing less.
			wild := netip.AddrPortFrom(netip.IPv4Unspecified(), addr.Port())
			if got := Holder(network, wild); !strings.HasSuffix(got, want) {
				t.Errorf("holder of %s = %q, want ...%s", wild, got, want)
			}
			_, err := net.Listen("tcp", addr.String())
			if network == "udp" {
				_, err = net.ListenPacket("udp", addr.String())
			}
			var in *InUse
			if err = Explain(err, network, addr); !errors.As(err, &in) || !strings.Contains(err.Error(), want) {
				t.Errorf("explained: %v", err)
			}
		})
	}
}

func TestFindSocket(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0801 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100000A:006F 0200000A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1
   2: 00000000:006F 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0
garbage
   3: zz:1 x y z
`
	for name, c := range map[string]struct{ addr, want string }{
		"same address":              {"127.0.0.1:2049", "4711"},
		"another address":           {"10.0.0.1:2049", ""},
		"wildcard wanted":           {"0.0.0.0:2049", "4711"},
		"wildcard held":             {"10.0.0.1:111", "4713"},
		"a connection is no holder": {"10.0.0.1:112", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := findSocket(strings.NewReader(table), "tcp", netip.MustParseAddrPort(c.addr)); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// What is no program to be stopped, or one by another name, is said as it is.
func TestFree(t *testing.T) {
	for _, c := range []struct {
		name   string
		port   uint16
		holder string
		want   string
	}{
		{"a program", 2049, "unfsd (pid 7)", "stop that program"},
		{"nobody is seen", 69, "", "stop that program"},
		{"the kernel's NFS server", 2049, unseen, "disable --now nfs-server"},
		{"rpcbind", 111, "rpcbind (pid 7)", "disable --now rpcbind.socket rpcbind"},
		{"rpcbind, before it is called", 111, socketUnit, "disable --now rpcbind.socket rpcbind"},
		{"another unit", 69, socketUnit, "systemctl list-sockets"},
	} {
		if got := Free(c.port, c.holder); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q in it", c.name, got, c.want)
		}
	}
}
