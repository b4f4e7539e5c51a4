package boardtext

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/template"
)

// Facts are what a template may name.
type Facts struct {
	// Serial is the board's, 8 hex digits.
	Serial string
	// Name is that of devices.yaml, or the serial of a board without one.
	Name string
	// Hostname is the one that the board gets.
	Hostname string
	// MAC is the board's as it is heard, Address where it mounts its root from; ""
	// where that is not known.
	MAC     string
	Address string
	// Image is the version that the board boots, such as lab@3.
	Image string
	// Group is the first of Groups; "" when there is none.
	Group  string
	Groups []string
	// Vars are the "vars" of devices.yaml. To name one that is not there is an error.
	Vars map[string]string
}

// MaxText bounds what a template may become, in bytes.
const MaxText = 1 << 20

// Template is a text that was found to be a template. The zero value is the empty text.
type Template struct {
	text string
	t    *template.Template
}

// Parse reads a template in the language of text/template. The error says where in the text.
func Parse(text string) (*Template, error) {
	t, err := template.New("template").Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, tidy(err)
	}
	return &Template{text: text, t: t}, nil
}

// String is the text of the template.
func (t *Template) String() string { return t.text }

// Render fills the template in. The error names what is not there.
func (t *Template) Render(f Facts) ([]byte, error) {
	if t.t == nil {
		return nil, nil
	}
	if f.Vars == nil {
		f.Vars = map[string]string{}
	}
	var out bytes.Buffer
	if err := t.t.Execute(&bounded{&out, MaxText}, f); err != nil {
		return nil, tidy(err)
	}
	return out.Bytes(), nil
}

// bounded ends a template that makes too much of itself.
type bounded struct {
	w    io.Writer
	left int
}

var errTooLong = fmt.Errorf("it becomes longer than %d bytes", MaxText)

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errTooLong
	}
	return b.w.Write(p)
}

// tidy takes from an error of text/template what says nothing to who wrote the template.
func tidy(err error) error {
	if errors.Is(err, errTooLong) {
		return errTooLong
	}
	text := strings.TrimPrefix(err.Error(), "template: ")
	text = strings.ReplaceAll(text, "executing \"template\" at ", "")
	text = strings.ReplaceAll(text, "in type boardtext.Facts", "among the facts of a board")
	return errors.New(text)
}
