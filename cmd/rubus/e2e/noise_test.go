package e2e

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"rubus/nfsexport/xdr"
)

// noise sends bytes of all kinds to every port; the seed is fixed.
func (h *hostile) noise() {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(limit int) []byte {
		b := make([]byte, rng.IntN(limit))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	c := h.s.udp()
	allowBroadcast(h.t, c)
	send := func(ip net.IP, port int, b []byte) { _, _ = c.WriteToUDP(b, &net.UDPAddr{IP: ip, Port: port}) }
	server := net.ParseIP(h.s.server)
	discover := []byte{1, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0, 0}
	discover = append(discover, make([]byte, 16)...)
	discover = append(discover, h.a.mac[:]...)
	discover = append(discover, make([]byte, 202)...)
	discover = append(discover, 0x63, 0x82, 0x53, 0x63, 53, 1, 1, 60, 32)
	discover = append(discover, "PXEClient:Arch:00000:UNDI:002001"...)
	rrq := []byte("\x00\x01" + h.a.serial.String() + "/config.txt\x00octet\x00blksize\x001468\x00tsize\x000\x00")
	for i := range 400 {
		for _, port := range []int{69, 111, portMount} {
			send(server, port, random(1472))
		}
		send(net.IPv4bcast, 67, random(1472))
		for _, seed := range [][]byte{discover, rrq} {
			b := append([]byte(nil), seed[:rng.IntN(len(seed)+1)]...)
			if len(b) > 0 && i%2 == 0 {
				b[rng.IntN(len(b))] ^= byte(1 << rng.IntN(8))
			}
			send(net.IPv4bcast, 67, append(b, random(64)...))
			send(server, 69, b)
		}
	}
	for i := range 60 {
		for _, port := range []int{111, portMount, portNFS} {
			conn, err := h.s.dial(port, 0)
			must(h.t, err)
			_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
			b := random(3000)
			switch i % 3 {
			case 1: // a record with a good mark and bad content
				b = append(binary.BigEndian.AppendUint32(nil, 1<<31|uint32(len(b))), b...)
			case 2: // one that claims to be far too long, or many empty fragments
				b = append(binary.BigEndian.AppendUint32(nil, uint32(rng.Uint32())|1<<30), b...)
				b = append(b, make([]byte, 4096)...)
			}
			_, _ = conn.Write(b)
			conn.Close()
		}
		if i%20 == 0 {
			if st, _ := h.s.nfs(procGetAttr, h.aRoot, nil); st != 0 {
				h.t.Errorf("GETATTR in the noise: status %d", st)
			}
		}
	}
	// Calls whose arguments are cut off or random, with a good head.
	for proc := range uint32(23) {
		for range 10 {
			_, err := h.s.call(portNFS, progNFS, proc, func(w *xdr.Writer) {
				if proc > 0 {
					w.Opaque(h.aRoot)
				}
				w.Buf = append(w.Buf, random(200)...)
				w.Buf = w.Buf[:len(w.Buf)&^3]
			})
			if err != nil && !strings.Contains(err.Error(), "RPC reply") {
				h.t.Errorf("procedure %d with random arguments: %v", proc, err)
			}
		}
	}
	h.hasFile(h.a.serial.String() + "/config.txt")
}
