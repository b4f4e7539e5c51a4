package tftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	pin "github.com/pin/tftp/v3"
)

// zeros is an endless file that is cut at a size.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func fileOf(r io.Reader, size int64) Handler {
	return openAs(memFile{r, size})
}

// TestLoss loses every third packet, either way, and hears some twice.
func TestLoss(t *testing.T) {
	want := strings.Repeat("0123456789", 2000)
	f := serve(t, Server{Handler: files{"f": want}, FirstWait: 5 * time.Millisecond, LeastWait: 5 * time.Millisecond, MostWait: 5 * time.Millisecond})
	b := f.board()
	random := rand.New(rand.NewPCG(1, 2))
	b.ask(rrq("f", "blksize", "600"))
	var got strings.Builder
	block := uint16(0) // the next wanted; 0 is the option acknowledgement
	for {
		p := b.hear()
		if random.IntN(3) == 0 {
			continue // lost on its way here
		}
		number := uint16(0)
		if p[1] == opData {
			number = binary.BigEndian.Uint16(p[2:])
		}
		if number == block {
			if block > 0 {
				got.Write(p[4:])
			}
			block++
		} else if number != block-1 {
			t.Fatalf("block %d while waiting for %d", number, block)
		}
		if random.IntN(3) != 0 {
			for range 1 + random.IntN(3) {
				b.ack(number)
			}
		}
		if p[1] == opData && len(p) < 604 {
			break
		}
	}
	b.ack(block - 1)
	if got.String() != want {
		t.Errorf("got %d bytes, want %d", got.Len(), len(want))
	}
	if e := f.outcome(OK); e.Retries == 0 {
		t.Error("nothing was sent again")
	}
}

// TestDuplicateAcks acknowledges each block three times: each block goes out
// once nevertheless (RFC 1123 section 4.2.3.1, the sorcerer's apprentice).
func TestDuplicateAcks(t *testing.T) {
	f := serve(t, Server{Handler: files{"f": strings.Repeat("x", 100*512)}})
	b := f.board()
	b.ask(rrq("f"))
	for block := uint16(1); block <= 101; block++ {
		if p := b.hear(); binary.BigEndian.Uint16(p[2:]) != block {
			t.Fatalf("block %d, want %d", binary.BigEndian.Uint16(p[2:]), block)
		}
		for range 3 {
			b.ack(block)
		}
	}
	if e := f.outcome(OK); e.Retries != 0 {
		t.Errorf("%+v", e)
	}
	b.silence()
}

// TestRollover sends more blocks than a block number can count: 65535 is
// followed by 0.
func TestRollover(t *testing.T) {
	const size = 66_000 * 512
	f := serve(t, Server{Handler: fileOf(zeros{}, size)})
	b := f.board()
	b.ask(rrq("f", "tsize", "0"))
	b.hear()
	b.ack(0)
	if got := b.read(512); len(got) != size {
		t.Errorf("got %d bytes, want %d", len(got), size)
	}
	if e := f.outcome(OK); e.Bytes != size {
		t.Errorf("%+v", e)
	}
}

// What is told otherwise: the block after 65535 is 1, blocks are no larger than
// allowed, and some names are answered without options.
func TestSettings(t *testing.T) {
	const size = 65_540 * 512
	f := serve(t, Server{Handler: fileOf(zeros{}, size), AfterLast: 1, MaxBlock: 600, Plain: func(p string) bool { return p == "s/boot.img" }})
	b := f.board()
	b.ask(rrq("f", "tsize", "0", "blksize", "1468"))
	if p := b.hear(); !strings.Contains(string(p), "blksize\x00600\x00") {
		t.Errorf("heard %q", p)
	}
	b.say(packError(0, "Early terminate"))
	f.outcome(EarlyTerminate)

	b = f.board()
	b.ask(rrq("s/boot.img", "tsize", "0", "blksize", "1468"))
	got, number := 0, uint16(1)
	for {
		p := b.hear()
		if len(p) < 4 || p[1] != opData || binary.BigEndian.Uint16(p[2:]) != number {
			t.Fatalf("heard %q, want block %d", p[:min(len(p), 8)], number)
		}
		got += len(p) - 4
		b.ack(number)
		if len(p) < 4+512 {
			break
		}
		if number++; number == 0 {
			number = 1
		}
	}
	if got != size {
		t.Errorf("got %d bytes, want %d", got, size)
	}
	f.outcome(OK)
}

func TestClientGoesAway(t *testing.T) {
	f := serve(t, Server{Handler: files{"f": strings.Repeat("x", 2000)}, FirstWait: time.Millisecond, Silence: 50 * time.Millisecond})
	b := f.board()
	b.ask(rrq("f"))
	e := f.outcome(Timeout)
	if e.Retries == 0 || e.Err == nil || e.Bytes != 0 || e.Duration < 50*time.Millisecond {
		t.Errorf("%+v", e)
	}
	for range 1 + e.Retries {
		b.want(data(1, strings.Repeat("x", 512)))
	}
	b.silence() // no last word to a board that has moved on

	closed := f.board()
	closed.ask(rrq("f", "tsize", "0"))
	closed.hear()
	must(t, closed.conn.Close())
	if e := <-f.events; e.Outcome != Aborted && e.Outcome != Timeout {
		t.Errorf("%+v", e)
	}

	f = serve(t, Server{Handler: files{"f": strings.Repeat("x", 2000)}})
	quits := f.board()
	quits.ask(rrq("f"))
	quits.hear()
	quits.ack(1)
	quits.hear()
	quits.say(packError(3, "Disk full"))
	if e := f.outcome(Aborted); !strings.Contains(e.Err.Error(), "Disk full") || e.Bytes != 512 {
		t.Errorf("%+v", e)
	}
	quits.silence()
}

// TestLostGoodbye: a board that only asks whether a file is there says so in one
// packet. When that is lost, its next request tells that nothing is wrong.
func TestLostGoodbye(t *testing.T) {
	f := serve(t, Server{Handler: files{"f": "x"}, FirstWait: time.Millisecond, Silence: 50 * time.Millisecond})
	b := f.board()
	b.ask(rrq("f", "tsize", "0"))
	b.hear()
	f.board().ask(rrq("missing"))
	f.outcome(NotFound)
	f.outcome(EarlyTerminate)

	alone := serve(t, Server{Handler: files{"f": "x"}, FirstWait: time.Millisecond, Silence: 50 * time.Millisecond})
	b = alone.board()
	b.ask(rrq("f", "tsize", "0"))
	b.hear()
	alone.outcome(Timeout)
}

// TestShrunkFile ends with an error to the board, not with a short file.
func TestShrunkFile(t *testing.T) {
	f := serve(t, Server{Handler: fileOf(strings.NewReader(strings.Repeat("x", 700)), 2000)})
	b := f.board()
	b.ask(rrq("f"))
	b.want(packError(codeUndefined, "Read error"))
	if e := f.outcome(Failed); e.Err == nil {
		t.Errorf("%+v", e)
	}

	broken := io.MultiReader(strings.NewReader("x"), errReader{})
	f = serve(t, Server{Handler: fileOf(broken, 2000)})
	b = f.board()
	b.ask(rrq("f"))
	b.want(packError(codeUndefined, "Read error"))
	f.outcome(Failed)
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("input/output error") }

// TestGrownFile sends no more than the size it announced.
func TestGrownFile(t *testing.T) {
	f := serve(t, Server{Handler: fileOf(zeros{}, 1000)})
	b := f.board()
	b.ask(rrq("f"))
	if got := b.read(512); len(got) != 1000 {
		t.Errorf("got %d bytes", len(got))
	}
	f.outcome(OK)
}

// TestHostileTransfer throws all sorts of packets at a transfer under way.
func TestHostileTransfer(t *testing.T) {
	// So much junk fills the socket's buffer: the acknowledgement may get lost.
	f := serve(t, Server{Handler: files{"f": strings.Repeat("x", 3000)}, FirstWait: 20 * time.Millisecond, LeastWait: 20 * time.Millisecond, MostWait: 20 * time.Millisecond})
	b := f.board()
	b.ask(rrq("f", "tsize", "0", "blksize", "600"))
	oack := b.hear()
	stranger := f.board()
	stranger.tid = b.tid
	random := rand.New(rand.NewPCG(3, 4))
	junk := [][]byte{
		{},
		{0},
		{0, 4},
		{0, 4, 0},
		bytes.Repeat([]byte{4}, 60000), oack, rrq("f"), data(1, "x"),
		{0, 2, 'a', 0, 'o', 0},
		{0, 9, 9, 9},
		binary.BigEndian.AppendUint16([]byte{0, opAck}, 77),
		{0, 6, 0, 0, 0, 0},
	}
	for range 200 {
		p := make([]byte, random.IntN(700))
		for i := range p {
			p[i] = byte(random.Uint32())
		}
		if len(p) > 1 && p[0] == 0 && p[1] <= opOAck {
			p[0] = 1
		}
		junk = append(junk, p)
	}
	for block := uint16(0); block <= 6; block++ {
		for _, p := range junk {
			b.say(p)
		}
		stranger.ack(block)
		stranger.say(packError(0, "go away"))
		// The right one has a tail longer than the library has room for.
		ack := append(binary.BigEndian.AppendUint16([]byte{0, opAck}, block), make([]byte, 2000)...)
		for b.say(ack); block < 6; b.say(ack) {
			p := b.hear()
			if number := binary.BigEndian.Uint16(p[2:]); p[1] == opData && number == block+1 {
				break
			} else if number > block+1 && p[1] == opData {
				t.Fatalf("block %d, want %d", number, block+1)
			}
		}
	}
	for done := false; !done; {
		select {
		case e := <-f.events:
			done = e.Outcome == OK
		case <-time.After(20 * time.Millisecond):
			b.ack(6) // it was lost
		}
	}

	b = f.board()
	b.ask(rrq("f"))
	b.hear()
	b.say(packError(0, strings.Repeat("long", 500)))
	f.outcome(EarlyTerminate)
}

// TestHostileRequests keeps the server's port busy with random bytes.
func TestHostileRequests(t *testing.T) {
	f := serve(t, Server{Handler: files{"f": "x"}})
	b := f.board()
	random := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		p := make([]byte, random.IntN(1500))
		for i := range p {
			p[i] = byte(random.Uint32())
		}
		if len(p) > 2 {
			p[0], p[1] = 0, byte(3+random.IntN(250))
		}
		b.ask(p)
		f.outcome(Malformed)
	}
	b.ask(rrq("f"))
	b.want(data(1, "x"))
	b.ack(1)
	f.outcome(OK)
}

func TestBlockFitsTheLink(t *testing.T) {
	f := serve(t, Server{Handler: fileOf(zeros{}, 100_000), MTU: func(int) int { return 1500 }})
	b := f.board()
	b.ask(rrq("f", "blksize", "65464"))
	b.want([]byte("\x00\x06blksize\x001468\x00"))
	b.ack(0)
	if p := b.hear(); len(p) != 1472 {
		t.Errorf("block of %d bytes", len(p))
	}
	b.ack(1)
	b.say(golden(t, "early-terminate"))
	f.outcome(Aborted)

	f = serve(t, Server{Handler: fileOf(zeros{}, 100_000)})
	b = f.board()
	b.ask(rrq("f", "blksize", "60000")) // the loopback interface takes it
	b.want([]byte("\x00\x06blksize\x0060000\x00"))
	b.say(golden(t, "early-terminate"))
	f.outcome(EarlyTerminate)
}

// BenchmarkRead measures lock-step reads over the loopback network.
func BenchmarkRead(b *testing.B) {
	const size = 4 << 20
	conn, err := Listen(b.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	must(b, err)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := Server{Handler: fileOf(zeros{}, size)}
	go s.Serve(ctx, conn)
	b.SetBytes(size)
	for b.Loop() {
		client, err := pin.NewClient(conn.LocalAddr().String())
		must(b, err)
		client.SetBlockSize(1468)
		r, err := client.Receive("f", "octet")
		must(b, err)
		_, err = r.WriteTo(io.Discard)
		must(b, err)
	}
}
