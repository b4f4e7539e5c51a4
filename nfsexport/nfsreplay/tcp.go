package nfsreplay

import (
	"encoding/binary"
	"net/netip"
)

// segment is what one TCP packet says.
type segment struct {
	from, to netip.AddrPort
	seq, ack uint32
	syn      bool
	data     []byte
}

// parse reads an Ethernet frame; ok: it is TCP over IPv4, and no fragment.
func parse(frame []byte) (s segment, ok bool) {
	be := binary.BigEndian
	if len(frame) < 14+20 || be.Uint16(frame[12:]) != 0x0800 {
		return s, false
	}
	ip := frame[14:]
	head, total := int(ip[0]&15)*4, int(be.Uint16(ip[2:]))
	if ip[0]>>4 != 4 || head < 20 || total < head+20 || total > len(ip) || ip[9] != 6 || be.Uint16(ip[6:])&0x3fff != 0 {
		return s, false
	}
	t := ip[head:total]
	offset := int(t[12]>>4) * 4
	if offset < 20 || offset > len(t) {
		return s, false
	}
	s.from = netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[12:])), be.Uint16(t))
	s.to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[16:])), be.Uint16(t[2:]))
	s.seq, s.ack, s.syn, s.data = be.Uint32(t[4:]), be.Uint32(t[8:]), t[13]&2 != 0, t[offset:]
	return s, true
}

// stream is one direction of a connection, put together again.
type stream struct {
	begun bool
	first uint32 // sequence number of the first byte
	next  uint32 // of the next one that is waited for
	early map[uint32]segment
	buf   []byte // what is not taken yet
	marks []mark // which packets brought it
}

// mark says that bytes from an offset of the stream on came in a packet that had
// acknowledged ack.
type mark struct{ at, ack uint32 }

// add takes a packet; its data may come again, early, or in pieces that overlap.
func (s *stream) add(p segment) {
	if p.syn {
		*s = stream{begun: true, first: p.seq + 1, next: p.seq + 1}
		return
	}
	if len(p.data) == 0 {
		return
	}
	if !s.begun {
		s.begun, s.first, s.next = true, p.seq, p.seq
	}
	if int32(p.seq-s.next) > 0 {
		if s.early == nil {
			s.early = map[uint32]segment{}
		}
		p.data = append([]byte(nil), p.data...)
		s.early[p.seq] = p
		return
	}
	s.take(p)
	for again := true; again; {
		again = false
		for seq, e := range s.early {
			if int32(seq-s.next) <= 0 {
				delete(s.early, seq)
				s.take(e)
				again = true
			}
		}
	}
}

func (s *stream) take(p segment) {
	old := s.next - p.seq
	if int(old) >= len(p.data) {
		return // it came before
	}
	s.marks = append(s.marks, mark{s.next - s.first, p.ack})
	s.buf = append(s.buf, p.data[old:]...)
	s.next = p.seq + uint32(len(p.data))
}

// record takes the next RPC record off the stream; ok: it is complete. begin and end
// are its offsets in the stream, and ack what its first packet had acknowledged.
func (s *stream) record() (b []byte, begin, end, ack uint32, ok bool) {
	begin = s.next - s.first - uint32(len(s.buf))
	at := 0
	for {
		if len(s.buf) < at+4 {
			return nil, 0, 0, 0, false
		}
		m := binary.BigEndian.Uint32(s.buf[at:])
		size := int(m &^ (1 << 31))
		if len(s.buf) < at+4+size {
			return nil, 0, 0, 0, false
		}
		b = append(b, s.buf[at+4:at+4+size]...)
		if at += 4 + size; m>>31 == 1 {
			break
		}
	}
	s.buf = s.buf[:copy(s.buf, s.buf[at:])]
	for len(s.marks) > 1 && s.marks[1].at <= begin {
		s.marks = s.marks[1:]
	}
	return b, begin, begin + uint32(at), s.marks[0].ack, true
}
