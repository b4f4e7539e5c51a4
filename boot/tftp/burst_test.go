package tftp

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestFileOrder reads files of all lengths around chunks and blocks and
// compares every byte: headers are written into the room of sent bytes.
func TestFileOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for name, fileOf := range map[string]func(text []byte) File{
		"read":     func(text []byte) File { return memFile{&stutter{text: text}, int64(len(text))} },
		"ready":    func(text []byte) File { return &partly{text: text, ready: func() bool { return true }} },
		"by parts": func(text []byte) File { return &partly{text: text, ready: func() bool { return random.IntN(3) > 0 }} },
	} {
		t.Run(name, func(t *testing.T) { fileOrder(t, fileOf) })
	}
}

func fileOrder(t *testing.T, fileOf func(text []byte) File) {
	for _, size := range []int{512, 1468, readySize, readySize + 1, chunkSize, chunkSize + 1} {
		for _, length := range []int{0, 1, size - 1, size, size + 1, readySize, chunkSize - 1, chunkSize, 2*chunkSize/size*size + 1, 3*chunkSize + 17} {
			text := make([]byte, length)
			for i := range text {
				text[i] = byte(i*7 + i>>8)
			}
			file := fileOf(text)
			r := newReader(file, size, 0)
			var got []byte
			number, short := uint16(1), 0
			for !r.ended {
				b, now := r.now()
				if !now {
					var err error
					if b, err = r.next(); err != nil {
						t.Fatal(err)
					}
				}
				for more := true; more; more = b.next() {
					if b.packet[1] != opData || binary.BigEndian.Uint16(b.packet[2:]) != number {
						t.Fatalf("block %d is %v", number, b.packet[:4])
					}
					if got = append(got, b.packet[headerSize:]...); len(b.packet) < headerSize+size {
						short++
					}
					number++
				}
			}
			if !slices.Equal(got, text) || short != 1 {
				t.Errorf("%d bytes in blocks of %d came out as %d with %d short blocks", length, size, len(got), short)
			}
			if _, again := r.now(); again {
				t.Errorf("%d bytes in blocks of %d: a burst after the last", length, size)
			}
		}
	}
}

// stutter reads a little at a time.
type stutter struct{ text []byte }

func (s *stutter) Read(p []byte) (int, error) {
	if len(s.text) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 1000)], s.text)
	s.text = s.text[n:]
	return n, nil
}

// partly is a file of which some is in memory.
type partly struct {
	text  []byte
	off   int
	ready func() bool
	reads int // that might have waited
	// told is how often the server said so, untold how many reads it said nothing of.
	told, untold int
	waits        atomic.Int64
}

// wait is told by the server that the file is read.
func (p *partly) wait(n int) {
	p.told += max(n, 0)
	p.waits.Add(int64(n))
}

func (p *partly) Size() int64  { return int64(len(p.text)) }
func (p *partly) Close() error { return nil }

func (p *partly) Read(b []byte) (int, error) {
	if p.reads++; p.waits.Load() != 1 {
		p.untold++
	}
	if p.off == len(p.text) {
		return 0, io.EOF
	}
	n := copy(b, p.text[p.off:])
	p.off += n
	return n, nil
}

func (p *partly) ReadNow(b []byte) int {
	if !p.ready() {
		b = b[:min(len(b), 700)]
	}
	n := copy(b, p.text[p.off:])
	p.off += n
	return n
}

// What is in memory is sent without a Read that might wait, and what is not with it; that it
// might is told before.
func TestReady(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	text := strings.Repeat("0123456789abcdef", 40_000)
	for name, c := range map[string]struct {
		ready   func() bool
		options []string
		reads   bool
	}{
		"all of it":                {func() bool { return true }, []string{"blksize", "1468"}, false},
		"all of it, no options":    {func() bool { return true }, nil, true}, // the first
		"none of it":               {func() bool { return false }, []string{"blksize", "1468"}, true},
		"now some, now none of it": {func() bool { return random.IntN(4) > 0 }, []string{"blksize", "1468"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			file := &partly{text: []byte(text), ready: c.ready}
			f := serve(t, Server{Handler: openAs(file), Waits: file.wait})
			b := f.board()
			b.ask(rrq("f", c.options...))
			size := 512
			if c.options != nil {
				size = 1468
				b.hear()
				b.ack(0)
			}
			if got := b.read(size); string(got) != text {
				t.Errorf("got %d bytes, want %d", len(got), len(text))
			}
			f.outcome(OK)
			if c.reads != (file.reads > 0) || c.options == nil && file.reads > 2 {
				t.Errorf("%d reads", file.reads)
			}
			if c.reads != (file.told > 0) || file.untold > 0 || file.waits.Load() != 0 {
				t.Errorf("told %d times that it may wait, not of %d reads, and at last %d do", file.told, file.untold, file.waits.Load())
			}
		})
	}
}

// TestTakeAllocates: an acknowledgement takes no memory. A boot has 16,000 of them.
func TestTakeAllocates(t *testing.T) {
	l := newLane(new(quiet), lan, time.Minute)
	defer l.close()
	f := &flight{to: airBoard, moved: new(atomic.Bool)}
	l.add(f)
	b := burst{buf: make([]byte, chunkSize), from: headerSize, block: 1024}
	b.next()
	if err := l.begin(f, b, nil); err != nil {
		t.Fatal(err)
	}
	ack := []message{{airBoard, make([]byte, 4)}}
	if n := testing.AllocsPerRun(chunkSize/1024-3, func() {
		packAck(ack[0].data, f.number)
		l.take(ack, true)
	}); n != 0 || f.number != chunkSize/1024-1 {
		t.Errorf("%v allocations for each, up to block %d", n, f.number)
	}
}

func packAck(b []byte, block uint16) {
	binary.BigEndian.PutUint16(b, opAck)
	binary.BigEndian.PutUint16(b[2:], block)
}
