package flow

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"testing"
)

// sha is the SHA-256 of a file in hex.
func sha(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	must(t, err)
	return hex.EncodeToString(h.Sum(nil))
}
