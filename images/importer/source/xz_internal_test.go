package source

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"testing"

	"github.com/ulikunitz/xz"
)

// Both ways of decompressing agree, also about what is wrong.
func TestXZ(t *testing.T) {
	program, err := exec.LookPath("xz")
	if err != nil {
		t.Fatalf("this test needs xz (package xz-utils): %v", err)
	}
	content := bytes.Repeat([]byte("golden root "), 1<<16)
	var packed bytes.Buffer
	w, err := xz.NewWriter(&packed)
	if err == nil {
		_, err = w.Write(content)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(packed.Bytes())
	flipped[len(flipped)/2] ^= 1
	for name, c := range map[string]struct {
		in   []byte
		want error // io.EOF: any
	}{
		"whole":     {packed.Bytes(), nil},
		"two":       {bytes.Repeat(packed.Bytes(), 2), nil},
		"truncated": {packed.Bytes()[:packed.Len()-5], io.ErrUnexpectedEOF},
		"half":      {packed.Bytes()[:packed.Len()/2], io.ErrUnexpectedEOF},
		"flipped":   {flipped, io.EOF},
	} {
		for _, with := range []string{program, ""} {
			t.Run(name+" "+with, func(t *testing.T) {
				s, err := newXZ(t.Context(), with, bytes.NewReader(c.in))
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(s)
				switch {
				case c.want == nil && (err != nil || !bytes.Equal(got[:len(content)], content)):
					t.Errorf("%d bytes, %v", len(got), err)
				case c.want == io.EOF && err == nil, c.want == io.ErrUnexpectedEOF && !errors.Is(err, c.want):
					t.Errorf("error %v, want %v", err, c.want)
				}
				if s.close != nil {
					s.interrupt()
					s.close()
				}
			})
		}
	}
}

// A program that waits for a silent pipe ends when it is told to.
func TestXZInterrupted(t *testing.T) {
	program, err := exec.LookPath("xz")
	if err != nil {
		t.Fatalf("this test needs xz (package xz-utils): %v", err)
	}
	r, w := io.Pipe()
	defer w.Close()
	s, err := newXZ(t.Context(), program, r)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := io.ReadAll(s)
		ended <- err
	}()
	s.interrupt()
	if err := <-ended; err == nil {
		t.Error("a killed decompressor ended well")
	}
}
