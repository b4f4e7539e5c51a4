package sunrpc

import (
	"context"
	"fmt"
	"slices"
	"testing"
)

// TestPurse: who holds some gets less the less is left, and who holds nothing gets what there is.
func TestPurse(t *testing.T) {
	for _, tc := range []struct {
		name            string
		all, each, part int64
		n               int
		want            []int64 // of peers that take what they get, one after the other
		left            int64
	}{
		{"bytes", 256, 32, partOfBytes, 1, []int64{7, 7, 7, 7, 6, 6, 6}, 256 - 46},
		{"calls", 512, 64, partOfCalls, 1, []int64{64, 64, 64, 64, 51}, 512 - 307},
		{"few calls", 21, 5, partOfCalls, 1, []int64{4, 3, 2, 2, 2, 1, 1, 1}, 5},
		{"one", 1, 1, partOfBytes, 1, []int64{1, 0, 0}, 0},
		{"what is left for nobody", 10, 10, 1, 3, []int64{3, 3, 3, 0}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPurse(tc.all, tc.each, tc.part)
			var all []*holding
			for i, want := range tc.want {
				h := &holding{of: p}
				for h.try(tc.n) {
				}
				if h.holds() != want {
					t.Errorf("peer %d has %d, want %d", i, h.holds(), want)
				}
				all = append(all, h)
			}
			if p.left() != tc.left {
				t.Errorf("%d are left, want %d", p.left(), tc.left)
			}
			for _, h := range all {
				for h.holds() > 0 {
					h.give(tc.n)
				}
			}
			if p.left() != tc.all {
				t.Errorf("%d of %d came back", p.left(), tc.all)
			}
		})
	}
}

// TestPurseInTurn: of those who wait those get first who hold nothing, in turn, and then those who
// hold least; who does not wait any more is in nobody's way.
func TestPurseInTurn(t *testing.T) {
	p := newPurse(100, 100, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	got := make(chan string)
	holders := map[string]*holding{}
	take := func(ctx context.Context, who string, n int) {
		if holders[who] == nil {
			holders[who] = &holding{of: p}
		}
		h, before := holders[who], p.wanted()
		go func() {
			if h.take(ctx, n) != nil {
				who = ""
			}
			got <- who
		}()
		until(t, fmt.Sprint(who, " waits"), func() bool { return p.wanted() == before+1 })
	}
	is := func(want ...string) {
		t.Helper()
		var gets []string
		for range want {
			gets = append(gets, <-got)
		}
		slices.Sort(gets)
		if !slices.Equal(gets, want) {
			t.Errorf("they went to %q, want %q", gets, want)
		}
	}
	for who, n := range map[string]int{"all": 45, "much": 20, "some": 15, "little": 10} {
		if holders[who] = (&holding{of: p}); !holders[who].try(n) {
			t.Fatal(who)
		}
	}
	take(ctx, "much", 15)
	take(ctx, "little", 15)
	take(ctx, "some", 15)
	soon, give := context.WithCancel(ctx)
	take(soon, "left", 50)
	take(ctx, "nothing", 30)
	take(ctx, "nothing either", 5)
	if p.missing() != 75 {
		t.Errorf("%d are missing", p.missing())
	}
	holders["all"].give(30) // 40 are left, kept for one who wants 50
	if (&holding{of: p}).try(1) || p.wanted() != 6 {
		t.Error("what is kept was given away")
	}
	give()
	is("", "nothing", "nothing either")
	if p.missing() != 0 {
		t.Errorf("%d are missing", p.missing())
	}
	holders["all"].give(15) // 20 are left
	if p.wanted() != 3 {
		t.Error("who holds some got more than is left then")
	}
	for _, step := range []struct {
		who string
		n   int
		to  string
	}{{"nothing", 30, "little"}, {"little", 25, "some"}, {"some", 30, "much"}} {
		holders[step.who].give(step.n)
		is(step.to)
	}
	holders["much"].give(35)
	holders["nothing either"].give(5)
	if p.left() != 100 || p.wanted() != 0 {
		t.Errorf("%d are left, %d wait", p.left(), p.wanted())
	}
}

// BenchmarkPurse: what it costs to charge a peer with a buffer.
func BenchmarkPurse(b *testing.B) {
	h := &holding{of: newPurse(256<<20, 32<<20, partOfBytes)}
	for b.Loop() {
		if !h.try(wideBuffer) {
			b.Fatal()
		}
		h.give(wideBuffer)
	}
}
