package tftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	pin "github.com/pin/tftp/v3"
)

// files is a Handler over a map.
type files map[string]string

func (f files) Open(_ context.Context, r Request) (File, error) {
	switch s, ok := f[r.Path]; {
	case ok:
		return memFile{strings.NewReader(s), int64(len(s))}, nil
	case strings.HasPrefix(r.Path, "silent"):
		return nil, ErrSilent
	case strings.HasPrefix(r.Path, "refused"):
		return nil, ErrRefused
	case strings.HasPrefix(r.Path, "broken"):
		return nil, errors.New("the disk is on fire")
	}
	return nil, ErrNotFound
}

type memFile struct {
	io.Reader
	size int64
}

func (f memFile) Size() int64 { return f.size }
func (memFile) Close() error  { return nil }

// openAs gives everybody the same file.
func openAs(f File) Handler {
	return handlerFunc(func(context.Context, Request) (File, error) { return f, nil })
}

type handlerFunc func(context.Context, Request) (File, error)

func (f handlerFunc) Open(ctx context.Context, r Request) (File, error) { return f(ctx, r) }

// fixture is a server at work on the loopback network.
type fixture struct {
	*testing.T
	addr   netip.AddrPort
	events chan Event
	stop   context.CancelFunc
	done   chan error
}

func serve(t *testing.T, s Server) *fixture {
	t.Helper()
	f := &fixture{T: t, events: make(chan Event, 4096), done: make(chan error, 1)}
	if s.FirstWait == 0 {
		// Nothing gets lost here.
		s.FirstWait, s.LeastWait, s.MostWait = 10*time.Second, 10*time.Second, 10*time.Second
	}
	s.Observe = func(e Event) { f.events <- e }
	conn, err := Listen(t.Context(), netip.MustParseAddrPort("0.0.0.0:0"))
	must(t, err)
	f.addr = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(conn.LocalAddr().(*net.UDPAddr).Port))
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	go func() { f.done <- s.Serve(ctx, conn) }()
	t.Cleanup(func() {
		cancel()
		if err := <-f.done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		f.done <- nil
	})
	return f
}

// outcome waits for the next event.
func (f *fixture) outcome(want Outcome) Event {
	f.Helper()
	select {
	case e := <-f.events:
		if e.Outcome != want {
			f.Fatalf("outcome %q (%v), want %q", e.Outcome, e.Err, want)
		}
		return e
	case <-time.After(time.Minute):
		f.Fatalf("no event, want %q", want)
	}
	panic("not reached")
}

// board is a raw client.
type board struct {
	*testing.T
	conn   *net.UDPConn
	server netip.AddrPort
	tid    netip.AddrPort // the server's side of the transfer
}

func (f *fixture) board() *board {
	f.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(f, err)
	f.Cleanup(func() { conn.Close() })
	return &board{T: f.T, conn: conn, server: f.addr}
}

func (b *board) ask(packet []byte) {
	b.Helper()
	_, err := b.conn.WriteToUDPAddrPort(packet, b.server)
	must(b, err)
}

func (b *board) say(packet []byte) {
	b.Helper()
	_, err := b.conn.WriteToUDPAddrPort(packet, b.tid)
	must(b, err)
}

func (b *board) ack(block uint16) { b.say(binary.BigEndian.AppendUint16([]byte{0, opAck}, block)) }

// hear waits for a packet.
func (b *board) hear() []byte {
	b.Helper()
	must(b, b.conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	buf := make([]byte, 65536)
	n, from, err := b.conn.ReadFromUDPAddrPort(buf)
	must(b, err)
	b.tid = from
	return buf[:n]
}

// silence fails when anything is waiting to be heard. Call it when the server
// has reported that it is done.
func (b *board) silence() {
	b.Helper()
	must(b, b.conn.SetReadDeadline(time.Now().Add(time.Millisecond)))
	buf := make([]byte, 65536)
	if n, _, err := b.conn.ReadFromUDPAddrPort(buf); err == nil {
		b.Errorf("heard %q, want silence", buf[:n])
	}
}

func (b *board) want(packet []byte) {
	b.Helper()
	if got := b.hear(); !bytes.Equal(got, packet) {
		b.Fatalf("heard %q, want %q", got, packet)
	}
}

func rrq(path string, options ...string) []byte {
	p := append([]byte{0, opRead}, path+"\x00octet\x00"...)
	for _, o := range options {
		p = append(append(p, o...), 0)
	}
	return p
}

func data(block uint16, text string) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{0, opData}, block), text...)
}

// read fetches in lock-step from block 1 on and returns the content.
func (b *board) read(size int) string {
	b.Helper()
	var text strings.Builder
	for block := uint16(1); ; block++ {
		p := b.hear()
		if len(p) < 4 || p[1] != opData || binary.BigEndian.Uint16(p[2:]) != block {
			b.Fatalf("heard %q, want block %d", p, block)
		}
		text.Write(p[4:])
		b.ack(block)
		if len(p) < 4+size {
			return text.String()
		}
	}
}

func TestGoldens(t *testing.T) {
	start4 := strings.Repeat("firmware", 2250016/8)
	f := serve(t, Server{Handler: files{
		"bootcode.bin": strings.Repeat("b", 52476), "5b154510/start4.elf": start4, "6c4c16aa/config.txt": "arm_64bit=1\n",
	}})
	rom := f.board()
	rom.ask(golden(t, "rrq-pi3-rom"))
	if got := rom.read(512); len(got) != 52476 {
		t.Errorf("boot ROM got %d bytes", len(got))
	}
	if e := f.outcome(OK); e.Bytes != 52476 || e.Block != 512 || e.Request.Path != "bootcode.bin" {
		t.Errorf("%+v", e)
	}

	probe := f.board()
	probe.ask(golden(t, "rrq-eeprom-2022"))
	probe.want(golden(t, "oack"))
	probe.say(golden(t, "early-terminate"))
	if e := f.outcome(EarlyTerminate); e.Err != nil {
		t.Errorf("%+v", e)
	}
	probe.silence()

	eeprom := f.board()
	eeprom.ask(golden(t, "rrq-eeprom-2022"))
	eeprom.want(golden(t, "oack"))
	eeprom.say(golden(t, "ack-0"))
	if got := eeprom.read(1468); got != start4 {
		t.Errorf("EEPROM got %d bytes", len(got))
	}
	if e := f.outcome(OK); e.Bytes != 2250016 || e.Size != 2250016 || e.Retries != 0 || e.Duration <= 0 {
		t.Errorf("%+v", e)
	}

	three := f.board()
	three.ask(golden(t, "rrq-pi3-start"))
	three.want([]byte("\x00\x06tsize\x0012\x00"))
	three.ack(0)
	if got := three.read(512); got != "arm_64bit=1\n" {
		t.Errorf("got %q", got)
	}
	f.outcome(OK)

	missing := f.board()
	missing.ask(golden(t, "rrq-eeprom-2019"))
	missing.want(golden(t, "not-found"))
	f.outcome(NotFound)
	missing.silence()
	if missing.tid.Port() == f.addr.Port() {
		t.Error("an error came from the server's own port")
	}
}

func TestSizes(t *testing.T) {
	for _, n := range []int{0, 1, 511, 512, 513, 1024, 1467, 1468, 1469, 2936, 70000} {
		want := strings.Repeat("x", n)
		f := serve(t, Server{Handler: files{"f": want}})
		for _, size := range []int{512, 1468} {
			b := f.board()
			b.ask(rrq("f", "tsize", "0", "blksize", map[int]string{512: "512", 1468: "1468"}[size]))
			b.want(packOAck([]option{{"tsize", itoa(n)}, {"blksize", itoa(size)}}))
			b.ack(0)
			if got := b.read(size); got != want {
				t.Errorf("%d bytes in blocks of %d: got %d", n, size, len(got))
			}
			f.outcome(OK)
		}
		b := f.board() // without a word of options
		b.ask(rrq("f"))
		if got := b.read(512); got != want {
			t.Errorf("%d bytes without options: got %d", n, len(got))
		}
		f.outcome(OK)
		b = f.board() // an empty file has a size, too
		b.ask(rrq("f", "tsize", "0"))
		b.want(packOAck([]option{{"tsize", itoa(n)}}))
		b.say(golden(t, "early-terminate"))
		f.outcome(EarlyTerminate)
	}
}

func itoa(n int) string { return string(appendInt(nil, n)) }

func appendInt(b []byte, n int) []byte {
	if n >= 10 {
		b = appendInt(b, n/10)
	}
	return append(b, byte('0'+n%10))
}

func TestRefusals(t *testing.T) {
	f := serve(t, Server{Handler: files{"f": "x"}})
	for name, c := range map[string]struct {
		packet  string
		answer  string // "" is silence
		outcome Outcome
	}{
		"write":           {"\x00\x02f\x00octet\x00", "\x00\x05\x00\x02Read only\x00", Refused},
		"netascii":        {"\x00\x01f\x00netascii\x00", "\x00\x05\x00\x04Use octet mode\x00", Refused},
		"mail":            {"\x00\x01f\x00mail\x00", "\x00\x05\x00\x04Use octet mode\x00", Refused},
		"refused":         {string(rrq("refused")), "\x00\x05\x00\x02Access violation\x00", Refused},
		"our own failure": {string(rrq("broken")), "\x00\x05\x00\x00Not available\x00", Failed},
		"silent":          {string(rrq("silent")), "", Silent},
		"no TFTP":         {"GET / HTTP/1.0\r\n\r\n", "", Malformed},
		"a stray ACK":     {"\x00\x04\x00\x01", "", Malformed},
		"one byte":        {"\x00", "", Malformed},
		"huge":            {string(rrq(strings.Repeat("a", 8000))), "", Malformed},
	} {
		b := f.board()
		b.ask([]byte(c.packet))
		if c.answer != "" {
			b.want([]byte(c.answer))
		}
		e := f.outcome(c.outcome)
		b.silence()
		if strings.Contains(name, "failure") && !strings.Contains(e.Err.Error(), "fire") {
			t.Errorf("%s: %v", name, e.Err)
		}
	}
}

func TestUnknownClients(t *testing.T) {
	f := serve(t, Server{
		Handler: files{"f": "x"},
		Known:   func(_ context.Context, a netip.Addr) bool { return a != netip.MustParseAddr("127.0.0.1") },
	})
	for _, packet := range []string{string(rrq("f")), string(rrq("missing")), "\x00\x02f\x00octet\x00", "\x00\x01f\x00netascii\x00"} {
		b := f.board()
		b.ask([]byte(packet))
		f.outcome(Silent)
		b.silence()
	}
}

// TestAnswersFromTheAddressAsked listens on all addresses: a board that asked
// one of them takes no answer from another.
func TestAnswersFromTheAddressAsked(t *testing.T) {
	f := serve(t, Server{Handler: files{"f": "x"}})
	for _, addr := range []string{"127.0.0.1", "127.0.0.2", "127.9.9.9"} {
		b := f.board()
		b.server = netip.AddrPortFrom(netip.MustParseAddr(addr), f.addr.Port())
		b.ask(rrq("f"))
		b.want(data(1, "x"))
		if b.tid.Addr() != b.server.Addr() {
			t.Errorf("asked %s, answer from %s", addr, b.tid)
		}
		b.ack(1)
		if e := f.outcome(OK); e.Request.Server != b.server.Addr() || e.Request.Client != b.conn.LocalAddr().(*net.UDPAddr).AddrPort() {
			t.Errorf("%+v", e.Request)
		}
		b.ask(rrq("missing"))
		b.hear()
		if b.tid.Addr() != b.server.Addr() {
			t.Errorf("asked %s, error from %s", addr, b.tid)
		}
		f.outcome(NotFound)
	}
}

// TestPinClient lets the library's own client read.
func TestPinClient(t *testing.T) {
	want := strings.Repeat("0123456789", 100_000)
	f := serve(t, Server{Handler: files{"f": want, "empty": ""}})
	client, err := pin.NewClient(f.addr.String())
	must(t, err)
	client.SetBlockSize(1468)
	client.RequestTSize(true)
	for name, want := range map[string]string{"f": want, "empty": ""} {
		r, err := client.Receive(name, "octet")
		must(t, err)
		if n, ok := r.(pin.IncomingTransfer).Size(); !ok || n != int64(len(want)) {
			t.Errorf("%q: size %d, %v", name, n, ok)
		}
		var got strings.Builder
		if _, err := r.WriteTo(&got); err != nil || got.String() != want {
			t.Errorf("%q: %d bytes, %v", name, got.Len(), err)
		}
		f.outcome(OK)
	}
	if _, err := client.Receive("missing", "octet"); err == nil || !strings.Contains(err.Error(), "File not found") {
		t.Errorf("missing file: %v", err)
	}
	f.outcome(NotFound)
}

func TestManyAtOnce(t *testing.T) {
	want := strings.Repeat("0123456789", 20_000)
	f := serve(t, Server{Handler: files{"f": want}, MaxPerClient: 64})
	var wg sync.WaitGroup
	for range 50 {
		client, err := pin.NewClient(f.addr.String())
		must(t, err)
		client.SetBlockSize(512 + rand.IntN(1000))
		wg.Go(func() {
			r, err := client.Receive("f", "octet")
			if err != nil {
				t.Error(err)
				return
			}
			var got strings.Builder
			if _, err := r.WriteTo(&got); err != nil || got.String() != want {
				t.Errorf("%d bytes, %v", got.Len(), err)
			}
		})
	}
	wg.Wait()
	for range 50 {
		f.outcome(OK)
	}
}
