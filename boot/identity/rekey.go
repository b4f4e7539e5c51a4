package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// HostKeys are the public keys of those that the server made for the board or took over
// from it, as lines of known_hosts have them: type and base64. One that cannot be read is
// left out.
func (s Store) HostKeys() ([]string, error) {
	if err := s.finish(); err != nil {
		return nil, err
	}
	var out []string
	for _, kind := range kinds() {
		switch _, err := os.Lstat(filepath.Join(s.Dir, storedKey(kind))); {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, fmt.Errorf("reading the identity: %w", err)
		}
		k, err := s.hostKey(kind)
		if errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
		if err == nil && k != nil {
			out = append(out, k.knownLine())
		}
	}
	return out, nil
}

// Rekey makes new ssh host keys of the kinds that the server made for the board or took over
// from it; the board has them at its next boot. After an error, or a crash, all are new or none
// is.
func (s Store) Rekey() (is []string, err error) {
	if err := s.finish(); err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, kind := range kinds() {
		if !s.has(kind) {
			continue
		}
		k, err := makeHostKey(kind)
		if err != nil {
			return nil, err
		}
		files[storedKey(kind)] = k.private
		is = append(is, k.knownLine())
	}
	if len(files) == 0 {
		return nil, nil
	}
	if err := s.change(files); err != nil {
		return nil, fmt.Errorf("new ssh host keys: %w", err)
	}
	return is, nil
}

// knownLine is the public key as a line of known_hosts has it: type and base64.
func (k *hostKey) knownLine() string {
	fields := bytes.Fields(k.publicLine("-"))
	return string(fields[0]) + " " + string(fields[1])
}
