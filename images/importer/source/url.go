package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

func isURL(name string) bool {
	return strings.HasPrefix(name, "https://") || strings.HasPrefix(name, "http://")
}

// downloadError is what a download ended with.
type downloadError struct{ err error }

// Error implements error.
func (e *downloadError) Error() string { return "downloading it: " + e.err.Error() }

// Unwrap gives what is behind it.
func (e *downloadError) Unwrap() error { return e.err }

// openURL begins a download. Over plain http anybody on the way may change it: then
// Options.SHA256 must say what it is.
func (s *Source) openURL(ctx context.Context, name string) error {
	u, err := url.Parse(name)
	if err != nil || u.Host == "" {
		return errors.New("that is no URL")
	}
	if u.Scheme != "https" && s.o.SHA256 == "" {
		return errors.New("http can be changed by anybody on the way: use https, or say with --sha256 what it should be")
	}
	s.Name = u.Redacted()
	client := http.Client{}
	if s.o.Client != nil {
		client = *s.o.Client
	}
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		switch {
		case len(via) > 10:
			return errors.New("too many redirects")
		case via[0].URL.Scheme == "https" && req.URL.Scheme != "https":
			return fmt.Errorf("it is redirected to %q, without encryption", req.URL.Redacted())
		}
		return nil
	}
	d := &download{ctx: ctx, url: u.String(), client: &client}
	if err := d.request(); err != nil {
		return &downloadError{err}
	}
	s.closers = append(s.closers, d.Close)
	s.Total = max(0, d.total)
	return s.openStream(ctx, d)
}

// download reads a URL, and goes on where it was when the connection breaks.
type download struct {
	ctx    context.Context //nolint:containedctx // lives as long as one import
	client *http.Client
	url    string
	body   io.ReadCloser
	at     int64
	total  int64  // -1: unknown
	tag    string // names the content, so that what is resumed is the same; "": it can't be
	tries  int
}

// How often a broken download goes on, and how long a server may be silent.
const (
	maxTries  = 5
	idleLimit = time.Minute
)

func (d *download) request() error {
	req, err := http.NewRequestWithContext(d.ctx, http.MethodGet, d.url, nil)
	if err != nil {
		return err
	}
	// What is compressed on the way only would count wrong.
	req.Header.Set("Accept-Encoding", "identity")
	want := http.StatusOK
	if d.at > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.at))
		req.Header.Set("If-Range", d.tag)
		want = http.StatusPartialContent
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != want {
		resp.Body.Close()
		return fmt.Errorf("the server says %q", resp.Status)
	}
	d.body = resp.Body
	if d.at == 0 {
		d.total = resp.ContentLength
		if d.tag = resp.Header.Get("ETag"); strings.HasPrefix(d.tag, "W/") {
			d.tag = "" // only the same in a way
		}
		if d.tag == "" {
			d.tag = resp.Header.Get("Last-Modified")
		}
	}
	return nil
}

// Read implements io.Reader.
func (d *download) Read(b []byte) (int, error) {
	for {
		silent := time.AfterFunc(idleLimit, func() { d.body.Close() })
		n, err := d.body.Read(b)
		silent.Stop()
		d.at += int64(n)
		if n > 0 {
			return n, nil
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) && (d.total < 0 || d.at == d.total) {
			return 0, io.EOF
		}
		if err := d.resume(err); err != nil {
			return 0, &downloadError{err}
		}
	}
}

// resume goes on after the error why.
func (d *download) resume(why error) error {
	d.body.Close()
	for wait := time.Second; d.tag != "" && d.tries < maxTries; wait *= 2 {
		d.tries++
		select {
		case <-d.ctx.Done():
			return d.ctx.Err()
		case <-time.After(wait):
		}
		if d.request() == nil {
			return nil
		}
	}
	return fmt.Errorf("the connection broke after %d bytes: %w", d.at, why)
}

// Close ends the download.
func (d *download) Close() error { return d.body.Close() }
