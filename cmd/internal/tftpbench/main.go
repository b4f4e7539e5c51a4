package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "tftpbench: error:", err)
		os.Exit(1)
	}
}

// plan is what is measured.
type plan struct {
	servers []server
	clients []int
	size    int64
	block   int
	rounds  int
	least   int64 // bytes of a round, at least
	dir     string
}

func run() error {
	var p plan
	serve := flag.String("serve", "", "be the `server` rubus or pin, and serve -dir")
	servers := flag.String("servers", "rubus,pin,dnsmasq,atftpd", "servers to measure")
	clients := flag.String("clients", "1,20,100", "boards at once")
	megabytes := flag.Int64("size", 8, "MiB in a file")
	least := flag.Int64("least", 64, "MiB in a round, at least")
	flag.IntVar(&p.block, "block", 1468, "bytes in a block")
	flag.IntVar(&p.rounds, "rounds", 3, "rounds; the median counts")
	flag.StringVar(&p.dir, "dir", "", "the directory to serve")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *serve != "" {
		return be(ctx, *serve, p.dir)
	}
	p.size, p.least = *megabytes<<20, *least<<20
	for name := range strings.SplitSeq(*servers, ",") {
		s, err := serverNamed(name)
		if err != nil {
			return err
		}
		p.servers = append(p.servers, s)
	}
	for n := range strings.SplitSeq(*clients, ",") {
		c, err := strconv.Atoi(n)
		if err != nil || c < 1 || c > 1000 {
			return fmt.Errorf("-clients %q: want numbers from 1 to 1000", *clients)
		}
		p.clients = append(p.clients, c)
	}
	return p.run(ctx)
}

func (p *plan) run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "tftpbench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// For the servers that give up root.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	p.dir = dir
	content := make([]byte, p.size)
	for i := range content {
		content[i] = byte(i * 31 >> 3)
	}
	if err := os.WriteFile(filepath.Join(dir, "kernel.img"), content, 0o644); err != nil {
		return err
	}
	fmt.Printf("%d MiB files, blocks of %d bytes, the median of %d rounds\n\n", p.size>>20, p.block, p.rounds)
	verdicts := []string{""}
	fmt.Println("| clients | server | MB/s | slowest client | CPU ms/MB | sent again |")
	fmt.Println("|--:|---|--:|--:|--:|--:|")
	for _, clients := range p.clients {
		results := make([][]measured, len(p.servers))
		// In turn, so that what else the machine does hits all alike.
		for range p.rounds {
			for i, s := range p.servers {
				m, err := p.round(ctx, s, clients)
				if err != nil {
					return fmt.Errorf("%s, %d clients: %w", s.name, clients, err)
				}
				results[i] = append(results[i], m)
			}
		}
		middles := map[string]measured{}
		for i, s := range p.servers {
			m := median(results[i])
			middles[s.name] = m
			fmt.Printf("| %d | %s | %.0f | %.2f s | %.2f | %d |\n", clients, s.name, m.rate, m.slowest.Seconds(), m.cpu, m.again)
		}
		verdicts = append(verdicts, goals(clients, middles)...)
	}
	for _, v := range verdicts {
		fmt.Println(v)
	}
	return nil
}

// goals says whether rubus is no worse than dnsmasq, where both were measured.
func goals(clients int, m map[string]measured) (lines []string) {
	our, ok := m["rubus"]
	their, both := m["dnsmasq"]
	if !ok || !both {
		return nil
	}
	say := func(what string, our, their float64, met bool) {
		word := "missed"
		if met {
			word = "met"
		}
		lines = append(lines, fmt.Sprintf("goal: %d clients, %s no worse than dnsmasq's: %s (%.2f, %.2f)", clients, what, word, our, their))
	}
	say("MB/s", our.rate, their.rate, our.rate >= their.rate)
	say("CPU ms/MB", our.cpu, their.cpu, our.cpu <= their.cpu)
	return lines
}

// measured is one round with one server.
type measured struct {
	rate    float64 // MB/s, of 10^6 bytes
	slowest time.Duration
	cpu     float64 // ms of the server's for a MB
	again   int     // blocks that came a second time
}

// median takes each figure's own.
func median(all []measured) measured {
	middle := func(less func(a, b measured) int) measured {
		return slices.SortedFunc(slices.Values(all), less)[len(all)/2]
	}
	return measured{
		rate:    middle(func(a, b measured) int { return cmp.Compare(a.rate, b.rate) }).rate,
		slowest: middle(func(a, b measured) int { return cmp.Compare(a.slowest, b.slowest) }).slowest,
		cpu:     middle(func(a, b measured) int { return cmp.Compare(a.cpu, b.cpu) }).cpu,
		again:   middle(func(a, b measured) int { return cmp.Compare(a.again, b.again) }).again,
	}
}

func (p *plan) round(ctx context.Context, s server, clients int) (measured, error) {
	proc, err := s.start(ctx, p.dir)
	if err != nil {
		return measured{}, err
	}
	defer proc.stop()
	// The first read finds the server ready and the file in memory.
	if _, err := load(ctx, loadPlan{clients: 1, files: 1, size: p.size, block: p.block}); err != nil {
		return measured{}, err
	}
	lp := loadPlan{clients: clients, files: int(max(1, (p.least+p.size*int64(clients)-1)/(p.size*int64(clients)))), size: p.size, block: p.block}
	before, err := proc.cpu()
	if err != nil {
		return measured{}, err
	}
	begin := time.Now()
	l, err := load(ctx, lp)
	if err != nil {
		return measured{}, err
	}
	took := time.Since(begin)
	after, err := proc.cpu()
	if err != nil {
		return measured{}, err
	}
	mb := float64(p.size) * float64(lp.files*clients) / 1e6
	return measured{
		rate: mb / took.Seconds(), slowest: l.slowest, again: l.again,
		cpu: float64((after - before).Microseconds()) / 1000 / mb,
	}, nil
}
