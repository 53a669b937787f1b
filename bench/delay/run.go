package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/bench/internal/host"
)

// attempts is how often a measurement is made while others disturb it.
const attempts = 3

// patience bounds what a measurement may take beyond its time: at the worst
// settings the server's own goroutines are slow to answer.
const patience = 20 * time.Second

// Run measures all cells and prints the tables.
func (c *runCmd) Run() error {
	// Ended by hand, it still takes the cgroup away.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return c.print(ctx, os.Stdout, os.Stderr)
}

func (c *runCmd) print(ctx context.Context, out, progress io.Writer) error {
	cpus := host.CPUs()
	if len(cpus) == 0 {
		return errors.New("needs Linux")
	}
	cells, each, err := c.cells(len(cpus))
	if err != nil {
		return err
	}
	b := &bench{runCmd: c, cpus: cpus, each: each}
	if slices.Contains(c.Place, onQuota) {
		if b.quota, err = newQuota(1); err != nil {
			fmt.Fprintf(progress, "delay: no cgroup with a quota of one can be made (%v); one CPU (--place=one) stands for it\n", err)
			cells = slices.DeleteFunc(cells, func(x cell) bool { return x.place == onQuota })
		} else {
			defer b.quota.remove()
		}
	}
	before := hostLine()
	r := results{cells: cells, of: map[cell]result{}, noise: c.Noise}
	for i, x := range cells {
		fmt.Fprintf(progress, "\r%d of %d ", i+1, len(cells))
		r.of[x], err = b.rounds(ctx, x)
		if ctx.Err() != nil { // What else is wrong comes of it.
			return fmt.Errorf("interrupted at %d of %d", i+1, len(cells))
		}
		if err != nil {
			return fmt.Errorf("%s, %d loops, GOMAXPROCS %d, beside %s, %s: %w", x.engine, x.loops, x.procs, x.beside, x.load, err)
		}
	}
	fmt.Fprintln(progress)
	for _, t := range r.tables() {
		if err := t.write(out, c.Markdown); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(out, "%s, %s, %d CPUs; at the end %s. %v a measurement, %d of each. Figures with a star were disturbed: other programs used more than %.2g CPUs.\n",
		before, runtime.Version(), len(cpus), hostLine(), each.Round(time.Millisecond), c.Rounds, c.Noise)
	return err
}

// bench is a run in progress.
type bench struct {
	*runCmd
	cpus  []int
	each  time.Duration
	quota *quota // nil without
}

// rounds measures a cell as often as asked, each time until it is quiet.
func (b *bench) rounds(ctx context.Context, x cell) (result, error) {
	var rounds []result
	for range b.Rounds {
		var best result
		for i := range attempts {
			b.waitQuiet()
			r, err := b.measure(ctx, x)
			if err != nil {
				return r, err
			}
			if i == 0 || r.foreign < best.foreign {
				best = r
			}
			if best.foreign <= b.Noise {
				break
			}
		}
		rounds = append(rounds, best)
	}
	return median(rounds), nil
}

// waitQuiet waits until others leave the CPUs alone, as long as --wait says.
func (b *bench) waitQuiet() {
	const look = 300 * time.Millisecond
	for end := time.Now().Add(b.Wait); time.Now().Before(end); {
		used := host.Busy()
		time.Sleep(look)
		if float64(host.Busy()-used) <= b.Noise*float64(look) {
			return
		}
	}
}

// measure measures a cell once.
func (b *bench) measure(ctx context.Context, x cell) (r result, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.each+patience)
	defer cancel()
	defer func() {
		if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) { // The processes were ended for it.
			err = fmt.Errorf("no answer within %v", b.each+patience)
		}
	}()
	start, used, ours := time.Now(), host.Busy(), host.SelfCPU()
	serverCPUs, loadCPUs := b.place(x.place)
	server, err := startChild(ctx, serverCPUs, "server", "--engine="+x.engine, fmt.Sprint("--loops=", x.loops), fmt.Sprint("--procs=", x.procs),
		"--beside="+x.beside, fmt.Sprint("--many=", b.Many), fmt.Sprint("--steps=", b.Steps), fmt.Sprint("--each=", b.each))
	if err != nil {
		return r, err
	}
	defer server.end()
	if x.place == onQuota {
		if err := b.quota.add(server.cmd.Process.Pid); err != nil {
			return r, err
		}
	}
	var addr string
	if err := server.read(&addr); err != nil {
		return r, err
	}
	var load *child
	if x.load != loadIdle {
		if load, err = b.startLoad(ctx, x, addr, loadCPUs); err != nil {
			return r, err
		}
		defer load.end()
		if err := errors.Join(load.proceed(), server.proceed(), load.read(&r.loadReport), server.read(&r.serverReport)); err != nil {
			return r, err
		}
		load.end()
	} else if err := errors.Join(server.proceed(), server.read(&r.serverReport)); err != nil {
		return r, err
	}
	server.end()
	wall := time.Since(start)
	r.foreign = max(0, float64(host.Busy()-used-(host.SelfCPU()-ours))/float64(wall)) // Both have ended.
	r.seconds = b.each.Seconds()
	return r, nil
}

// startLoad starts the generator, and returns when it has connected.
func (b *bench) startLoad(ctx context.Context, x cell, addr string, cpus []int) (*child, error) {
	args := []string{"load", "--addr=" + addr, fmt.Sprint("--each=", b.each)}
	if x.load == loadHalf {
		args = append(args, fmt.Sprint("--rate=", b.Rate))
	} else {
		args = append(args, "--rate=0")
	}
	if x.place == onOne && len(b.cpus) > 1 {
		args = append(args, "--spin")
	}
	load, err := startChild(ctx, cpus, args...)
	if err != nil {
		return nil, err
	}
	var ready string
	if err := load.read(&ready); err != nil {
		load.end()
		return nil, err
	}
	return load, nil
}

// place returns the CPUs of the server and those of the generator.
func (b *bench) place(place string) (server, load []int) {
	first, last := b.cpus[:1], b.cpus[len(b.cpus)-1:]
	switch place {
	case onOne:
		return first, last
	case onQuota:
		return b.cpus, last
	}
	return b.cpus, b.cpus
}

// child is this program again, in another role.
type child struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
	done bool
}

// startChild starts one that runs on these CPUs only, from its first thread on.
func startChild(ctx context.Context, cpus []int, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, self, args...)}
	c.cmd.Env = append(os.Environ(), childEnv+"=1")
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = json.NewDecoder(out)
	return c, host.Start(c.cmd, cpus)
}

// childEnv tells the binary of the tests that it is to be the program.
const childEnv = "PENSTOCK_DELAY_CHILD"

// read reads what the child prints next.
func (c *child) read(v any) error {
	if err := c.out.Decode(v); err != nil {
		return fmt.Errorf("%s: %w", c.cmd.Args[1], err)
	}
	return nil
}

// proceed lets the child go on.
func (c *child) proceed() error {
	_, err := c.in.Write([]byte("\n"))
	return err
}

// end lets the child end, and waits for it.
func (c *child) end() {
	if c.done {
		return
	}
	c.done = true
	_ = c.in.Close()
	_ = c.cmd.Wait()
}
