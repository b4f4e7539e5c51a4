package servecmd

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"rubus/boot/record"
)

// makeState makes the state directory's own directories. All but root are kept
// out: roots of boards hold setuid programs of other machines.
func makeState(state string) error {
	for _, d := range []string{"", "devices", "roots"} {
		if err := os.MkdirAll(filepath.Join(state, d), 0o700); err != nil {
			return fmt.Errorf("making the state directory: %w", err)
		}
	}
	for _, d := range []string{"devices", "roots"} {
		if err := os.Chmod(filepath.Join(state, d), 0o700); err != nil {
			return fmt.Errorf("closing the state directory to others: %w", err)
		}
	}
	return nil
}

// handleKey is the secret that authenticates NFS file handles. It is made once
// for a state directory: with another key every handle a board holds is bad.
func handleKey(state string) (key [32]byte, err error) {
	path := filepath.Join(state, "nfs.key")
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		_, _ = rand.Read(key[:]) // never fails
		if err := renameio.WriteFile(path, key[:], 0o600); err != nil {
			return key, fmt.Errorf("keeping the key of NFS file handles: %w", err)
		}
		return key, record.SyncDirs(state)
	case err != nil:
		return key, fmt.Errorf("reading the key of NFS file handles: %w", err)
	case len(b) != len(key):
		return key, fmt.Errorf("the key of NFS file handles, %q, has %d bytes instead of %d: restore it from a backup, or remove it when no board is up", path, len(b), len(key))
	}
	return [32]byte(b), nil
}

// randomSeed differs at every start.
func randomSeed() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])
}
