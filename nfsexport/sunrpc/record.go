package sunrpc

import (
	"encoding/binary"
	"errors"
)

// Record marking (RFC 5531 section 11): every fragment is preceded by a word
// that holds its length and, in the highest bit, whether it is the last.
const (
	markSize     = 4
	lastFragment = 1 << 31

	// inPlace is the longest record that is taken from the buffer it was read
	// into. Longer ones get a buffer of their own, read into directly.
	inPlace = 16 << 10
	// direct is the least rest of a fragment worth a read of its own.
	direct = 4 << 10
	// wary is the least to read at once.
	wary = 64
	// block is what the data of large records comes in multiples of, as a rule: so the
	// rest is what is before it. Data that begins at a block of memory is copied faster.
	block = 4 << 10
)

var (
	errRecordTooLong = errors.New("record too long")
	errEmptyFragment = errors.New("empty fragment that is not the last")
)

// framer cuts a stream of bytes into records. It does no I/O: its owner reads
// into space, says so with filled, and asks next.
//
// The work a peer can cause is bounded by the bytes it sends: fragments may be
// of one byte, but only the last may be empty.
type framer struct {
	pool  *pool
	pipes *pipes
	limit int // longest record
	// own gives a buffer for a record of n bytes. It may block, and fail.
	own func(n int) (*buffer, error)
	// split gives a pipe for what is still to come of a record of n bytes, of which head
	// is here; nil: that goes behind head. A nil split gives none.
	split func(head []byte, n int) *pipe

	in   *buffer // bytes as they came; nil while there are none
	r, w int     // in.b[r:w] is not taken yet

	rec    *buffer // a record that does not lie whole in "in"; nil: none
	at     int     // where in rec it begins
	have   int     // bytes of it
	left   int     // bytes of its current fragment still to come
	last   bool    // the current fragment is its last
	data   *pipe   // takes what is left of it, and has room behind at+have; nil: rec does
	intoIt bool    // space gave a part of rec
	wary   int     // the most to read at once; 0: as much as there is
}

// record is a record that came.
type record struct {
	b []byte // nil: there is none
	// owned is what b lies in, and now is the caller's; nil: b is valid until the
	// framer's space is called.
	owned *buffer
	// data holds what comes behind b, and is the caller's, too; nil: nothing. There is
	// room for it behind b.
	data *pipe
}

// next gives the next record; one without bytes means that more are needed.
func (f *framer) next() (record, error) {
	if f.rec == nil {
		if f.w-f.r < markSize {
			return record{}, nil
		}
		n, last, err := f.mark(0)
		if err != nil {
			return record{}, err
		}
		if last {
			if end := f.r + markSize + n; end <= f.w {
				b := f.in.b[f.r+markSize : end : end]
				f.r, f.wary = end, 0
				return record{b: b}, nil
			}
			if n <= inPlace {
				return record{}, nil
			}
		}
		// A record in fragments begins with room for an ordinary one.
		if f.rec, err = f.own(max(n, inPlace)); err != nil {
			return record{}, err
		}
		f.at, f.r = 0, f.r+markSize
		if last {
			f.at = min(-n&(block-1), len(f.rec.b)-n)
			if f.split != nil {
				f.data = f.split(f.bytes(), n)
			}
		}
		f.have, f.left, f.last = 0, n, last
	}
	for {
		n := copy(f.rest(), f.bytes())
		f.r, f.have, f.left = f.r+n, f.have+n, f.left-n
		if f.left > 0 {
			return record{}, nil
		}
		if f.last {
			end := f.at + f.have
			rec := record{f.rec.b[f.at : end-f.data.size() : end], f.rec, f.data}
			// The next is probably another like it, and what is read of it into "in" has
			// to be copied: no more than what is before its data.
			f.rec, f.data, f.wary = nil, nil, max(f.have&(block-1)+markSize, wary)
			return rec, nil
		}
		if f.w-f.r < markSize {
			return record{}, nil
		}
		var err error
		if n, f.last, err = f.mark(f.have); err != nil {
			return record{}, err
		}
		if err := f.grow(f.have + n); err != nil {
			return record{}, err
		}
		f.r, f.left = f.r+markSize, n
	}
}

// expect says that the next record probably has n bytes before its data: until they are
// here no more is read.
func (f *framer) expect(n int) { f.wary = n + markSize }

// unpipe takes what came of a record's data into memory, and so the rest: the pipe can
// hold no more.
func (f *framer) unpipe() error {
	end := f.at + f.have
	err := f.data.read(f.rec.b[end-f.data.n : end])
	f.pipes.put(f.data)
	f.data = nil
	return err
}

// peek gives the record that next would give, if it lies whole in what was read, and
// leaves it there.
func (f *framer) peek() []byte {
	if f.rec != nil || f.w-f.r < markSize {
		return nil
	}
	n, last, err := f.mark(0)
	end := f.r + markSize + n
	if err != nil || !last || end > f.w {
		return nil
	}
	return f.in.b[f.r+markSize : end : end]
}

// skip takes the record that peek gave.
func (f *framer) skip(record []byte) { f.r, f.wary = f.r+markSize+len(record), 0 }

// mark reads the word before a fragment of a record that has have bytes yet.
func (f *framer) mark(have int) (n int, last bool, err error) {
	word := binary.BigEndian.Uint32(f.in.b[f.r:])
	last = word&lastFragment != 0
	n = int(word &^ lastFragment)
	if n > f.limit-have {
		return 0, false, errRecordTooLong
	}
	if n == 0 && !last {
		return 0, false, errEmptyFragment
	}
	return n, last, nil
}

// grow makes room in rec for n bytes in all.
func (f *framer) grow(n int) error {
	if n <= len(f.rec.b) {
		return nil
	}
	b, err := f.own(n)
	if err != nil {
		return err
	}
	copy(b.b, f.rec.b[:f.have])
	f.pool.put(f.rec)
	f.rec = b
	return nil
}

// rest is where the rest of the current fragment goes.
func (f *framer) rest() []byte {
	at := f.at + f.have
	return f.rec.b[at : at+f.left]
}

// bytes are those read and not taken.
func (f *framer) bytes() []byte {
	if f.in == nil {
		return nil
	}
	return f.in.b[f.r:f.w]
}

// space gives where to read to: never empty.
func (f *framer) space() []byte {
	if f.intoIt = f.rec != nil && f.left >= direct && f.r == f.w; f.intoIt {
		return f.rest()
	}
	if f.in == nil {
		f.in, f.r, f.w = f.pool.get(mediumBuffer), 0, 0
	} else if f.r > 0 {
		f.w = copy(f.in.b, f.in.b[f.r:f.w])
		f.r = 0
	}
	if f.w == len(f.in.b) { // a small one, see park
		b := f.pool.get(mediumBuffer)
		copy(b.b, f.in.b)
		f.pool.put(f.in)
		f.in = b
	}
	if n := f.wary; n > 0 {
		if f.rec != nil {
			n += f.left
		}
		return f.in.b[f.w:min(f.w+n, len(f.in.b))]
	}
	return f.in.b[f.w:]
}

// filled says that n bytes were read into what space gave, or into data.
func (f *framer) filled(n int) {
	if f.intoIt || f.data != nil {
		f.have, f.left = f.have+n, f.left-n
	} else {
		f.w += n
	}
}

// partial says whether a part of a record is here.
func (f *framer) partial() bool { return f.rec != nil || f.r < f.w }

// park gives up memory that is not needed while the connection waits. What
// space gave is void.
func (f *framer) park() {
	if f.in == nil {
		return
	}
	n := f.w - f.r
	switch {
	case n == 0:
		f.pool.put(f.in)
		f.in, f.r, f.w = nil, 0, 0
	case n <= smallBuffer/2 && len(f.in.b) > smallBuffer:
		b := f.pool.get(smallBuffer)
		copy(b.b, f.in.b[f.r:f.w])
		f.pool.put(f.in)
		f.in, f.r, f.w = b, 0, n
	}
}

// close gives all memory back.
func (f *framer) close() {
	f.pool.put(f.in)
	f.pool.put(f.rec)
	f.pipes.put(f.data)
	f.in, f.rec, f.data, f.r, f.w = nil, nil, nil, 0, 0
}
