package control

import (
	"context"
	"net/http"
	"strconv"

	"rubus/boot/batch"
	"rubus/config/device"
	"rubus/images/imageref"
)

// Rebases is what the control socket offers of boards that move to another version.
type Rebases interface {
	// Rebase moves boards to another version with what they wrote: those that are down now,
	// the others when they boot next. What came of each stands in the answer.
	Rebase(ctx context.Context, o Rebase, tell func(Progress)) (batch.Batch, error)
	// Batches lists what Rebase was asked for, the oldest first.
	Batches(ctx context.Context) ([]batch.Batch, error)
	// UndoBatch takes the boards of a batch back.
	UndoBatch(ctx context.Context, n int, tell func(Progress)) (batch.Batch, error)
	// ReleaseBatch has the rest of a batch move without waiting for its canaries.
	ReleaseBatch(ctx context.Context, n int) (batch.Batch, error)
}

// Rebase is which boards are to move, and where.
type Rebase struct {
	Boards []device.Serial `json:"boards"`
	Image  imageref.Ref    `json:"image"`
	// Conflicts is board or image: whose holds where both changed a file; "": neither.
	Conflicts string `json:"conflicts,omitempty"`
	// First is how many boards move first, as canaries; 0: all move now.
	First int `json:"first,omitempty"`
}

// batchRoutes adds the verbs of Rebases.
func (s *server) batchRoutes(m *http.ServeMux) {
	m.HandleFunc("GET /v1/batches", s.read(func(ctx context.Context, _ *http.Request) (any, error) {
		return s.d.Batches(ctx)
	}))
	m.HandleFunc("POST /v1/batches", s.long("rebase", func(ctx context.Context, r *http.Request, tell func(Progress)) (any, error) {
		var o Rebase
		if err := readBody(r, &o); err != nil {
			return nil, err
		}
		return s.d.Rebase(ctx, o, tell)
	}))
	m.HandleFunc("POST /v1/batches/{n}/undo", s.long("undo rebase", func(ctx context.Context, r *http.Request, tell func(Progress)) (any, error) {
		n, err := batchOf(r)
		if err != nil {
			return nil, err
		}
		return s.d.UndoBatch(ctx, n, tell)
	}))
	m.HandleFunc("POST /v1/batches/{n}/release", s.change("release rebase", func(ctx context.Context, r *http.Request) (any, error) {
		n, err := batchOf(r)
		if err != nil {
			return nil, err
		}
		return s.d.ReleaseBatch(ctx, n)
	}))
}

// batchOf is the batch that a path names.
func batchOf(r *http.Request) (int, error) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 1 {
		return 0, Errorf(KindInvalid, "batch %q: want a number from 1", r.PathValue("n"))
	}
	return n, nil
}

// Rebase implements Daemon.
func (c *Client) Rebase(ctx context.Context, o Rebase, tell func(Progress)) (b batch.Batch, err error) {
	return b, c.job(ctx, "batches", o, tell, &b)
}

// Batches implements Daemon.
func (c *Client) Batches(ctx context.Context) (all []batch.Batch, err error) {
	return all, c.do(ctx, http.MethodGet, "batches", nil, &all)
}

// UndoBatch implements Daemon.
func (c *Client) UndoBatch(ctx context.Context, n int, tell func(Progress)) (b batch.Batch, err error) {
	return b, c.job(ctx, "batches/"+strconv.Itoa(n)+"/undo", struct{}{}, tell, &b)
}

// ReleaseBatch implements Daemon.
func (c *Client) ReleaseBatch(ctx context.Context, n int) (b batch.Batch, err error) {
	return b, c.do(ctx, http.MethodPost, "batches/"+strconv.Itoa(n)+"/release", nil, &b)
}
