package portmap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"rubus/nfsexport/xdr"
)

// Lookup asks the port mapper at an address, over TCP, for the port of a program
// (GETPORT); 0: it knows of none. The port of what is asked for does not matter.
func Lookup(ctx context.Context, at netip.AddrPort, what Mapping) (uint16, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	end, ok := ctx.Deadline()
	if !ok {
		end = time.Now().Add(10 * time.Second)
	}
	if err := conn.SetDeadline(end); err != nil {
		return 0, err
	}
	const xid = 0x72756275
	w := xdr.Writer{Buf: make([]byte, 4)}
	// The call (RFC 5531 section 9): version 2 of RPC, no credentials, no verifier.
	for _, v := range []uint32{xid, 0, 2, Number, Version, procGetPort, 0, 0, 0, 0, what.Program, what.Version, uint32(what.Protocol), 0} {
		w.Uint32(v)
	}
	const last = 1 << 31
	w.PutUint32(0, last|uint32(len(w.Buf)-4))
	if _, err := conn.Write(w.Buf); err != nil {
		return 0, fmt.Errorf("asking the port mapper: %w", err)
	}
	var mark [4]byte
	if _, err := io.ReadFull(conn, mark[:]); err != nil {
		return 0, fmt.Errorf("reading the port mapper's answer: %w", err)
	}
	size := binary.BigEndian.Uint32(mark[:])
	if size&last == 0 || size&^last > 512 {
		return 0, errors.New("the port mapper's answer is too long")
	}
	b := make([]byte, size&^last)
	if _, err := io.ReadFull(conn, b); err != nil {
		return 0, fmt.Errorf("reading the port mapper's answer: %w", err)
	}
	return parseAnswer(b, xid)
}

// parseAnswer reads the reply to GETPORT.
func parseAnswer(b []byte, xid uint32) (uint16, error) {
	r := xdr.NewReader(b)
	const reply, accepted, success = 1, 0, 0
	head := []uint32{r.Uint32(), r.Uint32(), r.Uint32()}
	r.Uint32() // the verifier's flavour
	r.Opaque(400)
	status, port := r.Uint32(), r.Uint32()
	switch {
	case !r.OK():
		return 0, errors.New("the port mapper's answer is cut short")
	case head[0] != xid || head[1] != reply || head[2] != accepted || status != success:
		return 0, errors.New("the port mapper refuses to answer")
	case port > 65535:
		return 0, fmt.Errorf("the port mapper's answer names port %d", port)
	}
	return uint16(port), nil
}
