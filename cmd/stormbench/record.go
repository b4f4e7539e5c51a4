package main

import (
	"fmt"
	"os"
	"time"

	"github.com/google/renameio/v2"

	"rubus/cmd/internal/capture"
	"rubus/nfsexport/nfsreplay"
)

// record makes a recording of the NFS calls in a capture.
func record(pcap, out string) error {
	in, err := os.Open(pcap)
	if err != nil {
		return err
	}
	defer in.Close()
	var r nfsreplay.Recorder
	if err := capture.Read(in, func(_ time.Time, frame []byte) error { return r.Frame(frame) }); err != nil {
		return fmt.Errorf("%s: %w", pcap, err)
	}
	rec, err := r.Recording()
	if err != nil {
		return fmt.Errorf("%s: %w", pcap, err)
	}
	f, err := renameio.NewPendingFile(out)
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if err := rec.Write(f); err != nil {
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "stormbench: %d calls of %d files\n", len(rec.Calls), len(rec.Nodes))
	return nil
}

func readRecording(path string) (*nfsreplay.Recording, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return nfsreplay.Read(f)
}
