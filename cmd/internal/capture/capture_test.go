package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestReadWhatWasWritten(t *testing.T) {
	var file bytes.Buffer
	w := NewWriter(&file)
	at := time.Unix(1_700_000_000, 123456789)
	frames := [][]byte{bytes.Repeat([]byte{1}, 60), {2}, bytes.Repeat([]byte{3}, 65550)}
	for i, f := range frames {
		if err := w.Frame(at.Add(time.Duration(i)), f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	whole := bytes.Clone(file.Bytes())
	n := 0
	err := Read(&file, func(when time.Time, f []byte) error {
		if !when.Equal(at.Add(time.Duration(n))) || !bytes.Equal(f, frames[n]) {
			t.Errorf("frame %d: %v, %d bytes", n, when, len(f))
		}
		n++
		return nil
	})
	if err != nil || n != len(frames) {
		t.Fatalf("%d frames, %v", n, err)
	}
	none := func(time.Time, []byte) error { return nil }
	if err := Read(bytes.NewReader(whole[:len(whole)-1]), none); !errors.Is(err, errCut) {
		t.Errorf("cut: %v", err)
	}
	for name, c := range map[string]struct {
		at   int
		with uint32
		want string
	}{
		"another format":     {0, 0x0a0d0d0a, "no capture"},
		"another link":       {20, 113, "link type 113"},
		"a part of a packet": {24 + 12, 61, "61 bytes of which 60"},
		"a giant":            {24 + 8, MaxFrame + 1, "were captured"},
	} {
		bad := bytes.Clone(whole)
		binary.LittleEndian.PutUint32(bad[c.at:], c.with)
		if err := Read(bytes.NewReader(bad), none); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestInterface captures a datagram over the loopback interface of the test's namespace.
func TestInterface(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pcap")
	c, err := Start("lo", path)
	if err != nil {
		t.Fatal(err)
	}
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := net.Dial("udp4", server.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	const word = "what is captured"
	if _, err := client.Write([]byte(word)); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	if err := Read(f, func(_ time.Time, frame []byte) error {
		if bytes.Contains(frame, []byte(word)) {
			n++
		}
		return nil
	}); err != nil || n == 0 {
		t.Errorf("%d frames, %v", n, err)
	}
}
