package sunrpc

import (
	"bytes"
	"testing"
	"unsafe"
)

// TestWholeBlocks: the data of large records, which is of whole blocks as a rule, begins at
// a block of memory, and after the first record is read right there: what is read ahead of
// a record like the one before is no more than what is before its data.
func TestWholeBlocks(t *testing.T) {
	const header = 132
	p := &pool{largeSize: 1<<20 + 8<<10}
	for _, size := range []int{128 << 10, 256 << 10, 1 << 20} {
		f := framer{pool: p, limit: p.largeSize, own: func(n int) (*buffer, error) { return p.get(n), nil }}
		one := framed(bytes.Repeat([]byte{'x'}, header+size))
		stream := bytes.Repeat(one, 3)
		for records := 0; records < 3; {
			record, err := f.next()
			switch {
			case err != nil:
				t.Fatal(err)
			case record.b == nil:
				space := f.space()
				if records > 0 && !f.intoIt && len(space) > header+markSize {
					t.Errorf("record of %d: %d bytes are read ahead", size, len(space))
				}
				n := copy(space, stream)
				f.filled(n)
				stream = stream[n:]
			default:
				records++
				if at := uintptr(unsafe.Pointer(&record.b[header])); at%block != 0 || len(record.b) != header+size {
					t.Errorf("record of %d bytes, its data at %#x", len(record.b), at)
				}
				p.put(record.owned)
			}
		}
		f.close()
	}
}

// TestReadsOfARecord: the end of a record takes no more reads because the next one's begin
// is wanted alone.
func TestReadsOfARecord(t *testing.T) {
	p := &pool{largeSize: 1<<20 + 8<<10}
	f := framer{pool: p, limit: p.largeSize, own: func(n int) (*buffer, error) { return p.get(n), nil }}
	defer f.close()
	stream := bytes.Repeat(framed(make([]byte, 128<<10+100)), 2)
	stream = append(stream, framed(make([]byte, 40))...)
	reads, records := 0, 0
	for len(stream) > 0 || records < 3 {
		record, err := f.next()
		if err != nil {
			t.Fatal(err)
		}
		if record.b != nil {
			p.put(record.owned)
			records++
			continue
		}
		space := f.space()
		if f.intoIt { // but for a rest that is too short to be read by itself
			space = space[:len(space)-direct/2]
		}
		n := copy(space, stream)
		f.filled(n)
		stream = stream[n:]
		if reads++; reads > 9 {
			t.Fatalf("%d reads, and %d records yet", reads, records)
		}
	}
}
