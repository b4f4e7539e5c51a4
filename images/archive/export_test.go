package archive

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/klauspost/compress/zstd"
)

func rawList(h listHead, lines []string) ([]byte, error) {
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out)
	if err != nil {
		return nil, err
	}
	head, err := json.Marshal(h)
	for _, l := range append([]string{string(head)}, lines...) {
		_, werr := z.Write([]byte(l + "\n"))
		err = errors.Join(err, werr)
	}
	err = errors.Join(err, z.Close())
	return out.Bytes(), err
}

// ListOf is a list as a stream has it, of lines as they are.
func ListOf(id string, isNew int64, lines ...string) []byte {
	b, err := rawList(listHead{ID: id, Names: int64(len(lines)), New: isNew}, lines)
	if err != nil {
		panic(err)
	}
	return b
}
