package identity

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Store is the directory with the identity of one board. Only root may enter it.
type Store struct{ Dir string }

// Dir is where the identity of a board is, below its own directory.
func Dir(board string) string { return filepath.Join(board, "identity") }

const (
	machineIDFile = "machine-id"
	givenFile     = "given.json"
	// maxState bounds what is read of one file of the store, in bytes.
	maxState = 4 << 20
)

// keep puts files of the store on the disk: all of them or none, and before it returns.
func (s Store) keep(files map[string][]byte) error {
	err := s.begin(files)
	if errors.Is(err, fs.ErrExist) {
		err = s.change(files)
	}
	if err != nil {
		return fmt.Errorf("keeping the identity: %w", err)
	}
	return nil
}

// read reads a file of the store; nil when there is none.
func (s Store) read(name string) ([]byte, error) {
	path := filepath.Join(s.Dir, name)
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && (!fi.Mode().IsRegular() || fi.Size() > maxState) {
		err = fmt.Errorf("%q is no file of at most %d bytes", path, maxState)
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the identity: %w", err)
	}
	return data, nil
}

// machineID is the board's; "": it has none yet.
func (s Store) machineID() (string, error) {
	data, err := s.read(machineIDFile)
	if err != nil || data == nil {
		return "", err
	}
	id := strings.TrimSpace(string(data))
	if !IsMachineID(id) {
		return "", fmt.Errorf("reading the identity: %q holds no machine id", filepath.Join(s.Dir, machineIDFile))
	}
	return id, nil
}

// IsMachineID says whether a text is a machine id, see machine-id(5): 32 hex digits in
// lower case, not all zero.
func IsMachineID(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0") != "" && strings.Trim(s, "0123456789abcdef") == ""
}

// newMachineID is random, in the form of a version 4 UUID as systemd makes them.
func newMachineID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (Go 1.24)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return hex.EncodeToString(b[:])
}

// storedKey is the file of the store with the key of a kind.
func storedKey(kind string) string { return filepath.Base(keyPath(kind)) }

// has says whether the board has a key of a kind.
func (s Store) has(kind string) bool {
	_, err := os.Lstat(filepath.Join(s.Dir, storedKey(kind)))
	return err == nil
}

// hostKey is the board's key of a kind; nil: it has none yet.
func (s Store) hostKey(kind string) (*hostKey, error) {
	name := storedKey(kind)
	data, err := s.read(name)
	if err != nil || data == nil {
		return nil, err
	}
	k, err := parseHostKey(data)
	if err == nil && k.kind != kind {
		err = fmt.Errorf("it is a key of kind %s", k.kind)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the identity: %q: %w", filepath.Join(s.Dir, name), err)
	}
	return k, nil
}

// Given is what a board was given last. It is a copy.
type Given struct {
	Hostname string `json:"hostname,omitempty"`
	// OwnName is the host name that the board took itself. KnowsName says that it was
	// looked for with what the board had been given in mind: older records may have as
	// given what was the board's own.
	OwnName   string `json:"own_hostname,omitempty"`
	KnowsName bool   `json:"knows_hostname,omitempty"`
	MachineID string `json:"machine_id,omitempty"`
	// HostKeys are public keys as lines of known_hosts have them: type and base64.
	HostKeys []string    `json:"host_keys,omitempty"`
	Files    []GivenFile `json:"files,omitempty"`
	// Lines are, by user, the digests of the lines of authorized_keys that the board
	// was ever given: those that are given no more are taken out again.
	Lines map[string][]string `json:"lines,omitempty"`
}

func (g Given) clone() Given {
	g.Files = slices.Clone(g.Files)
	return g
}

// GivenFile is a file that the board was given, now or earlier.
type GivenFile struct {
	Path   string `json:"path"`
	Secret bool   `json:"secret,omitempty"`
	// Shared says that the board has a part in its content, as in /etc/hosts.
	Shared bool `json:"shared,omitempty"`
	// Listed says that devices.yaml named it when the board booted last, and that
	// it goes when it is named no more.
	Listed bool `json:"listed,omitempty"`
	// Now says that the board has it from us still.
	Now bool `json:"now,omitempty"`
	// Digests are those of its contents (SHA-256), the latest first.
	Digests []string `json:"digests"`
}

// Given reads what the board was given last; one that never was has been given nothing.
func (s Store) Given() (Given, error) {
	data, err := s.read(givenFile)
	if err != nil || data == nil {
		return Given{}, err
	}
	var g Given
	if err := json.Unmarshal(data, &g); err != nil {
		return Given{}, fmt.Errorf("reading the identity %q: %w", filepath.Join(s.Dir, givenFile), err)
	}
	return g, nil
}

// encode is the file with what a board was given.
func (g Given) encode() ([]byte, error) {
	data, err := json.MarshalIndent(g, "", "  ")
	return append(data, '\n'), err
}
