package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-go/penstock/reactor"
)

// Places: where the server runs.
const (
	onOne   = "one"   // one loop on the first CPU, the generator on the last
	onAll   = "all"   // a loop for each CPU, the generator on all of them
	onQuota = "quota" // one loop on all CPUs, a cgroup quota of one
)

// What runs beside the loops.
const (
	besideNothing   = "nothing"
	besideComputes  = "computes"
	besideAllocates = "allocates"
	besideSleepers  = "sleepers"
	besideGC        = "gc"
)

// Loads on the loops.
const (
	loadIdle = "idle"
	loadHalf = "half"
	loadFull = "full"
)

// setting is one server.
type setting struct {
	engine string
	place  string
	loops  int
	procs  int
}

// cell is one server with its company.
type cell struct {
	setting
	beside string
	load   string
}

// leastCell is the shortest measurement that still has some hundred wakes.
const leastCell = 200 * time.Millisecond

// overhead is about how long it takes to start, warm up and end two processes.
const overhead = 400 * time.Millisecond

// cells lists what the flags ask for, in the order of the tables, and how long
// to measure each.
func (c *runCmd) cells(cpus int) ([]cell, time.Duration, error) {
	if err := c.check(); err != nil {
		return nil, 0, err
	}
	var list []cell
	for _, place := range c.Place {
		loops := 1
		if place == onAll {
			loops = cpus
		}
		procs, err := procsOf(c.Procs, loops)
		if err != nil {
			return nil, 0, err
		}
		for _, engine := range c.Engine {
			for _, n := range procs {
				s := setting{engine: engine, place: place, loops: loops, procs: n}
				for _, beside := range c.Beside {
					for _, load := range c.Load {
						list = append(list, cell{s, beside, load})
					}
				}
			}
		}
	}
	each := c.For/time.Duration(len(list)*c.Rounds) - overhead
	if each < leastCell {
		return nil, 0, fmt.Errorf("%d measurements do not fit into %v: raise --for, or ask for less", len(list)*c.Rounds, c.For)
	}
	return list, min(each, 2*time.Second), nil
}

// check finds words and numbers that mean nothing.
func (c *runCmd) check() error {
	for _, list := range []struct {
		flag       string
		have, know []string
	}{
		{"--place", c.Place, []string{onOne, onAll, onQuota}},
		{"--beside", c.Beside, []string{besideNothing, besideComputes, besideAllocates, besideSleepers, besideGC}},
		{"--load", c.Load, []string{loadIdle, loadHalf, loadFull}},
	} {
		if len(list.have) == 0 {
			return fmt.Errorf("%s: nothing to measure", list.flag)
		}
		for _, word := range list.have {
			if !slices.Contains(list.know, word) {
				return fmt.Errorf("%s: %q is none of %s", list.flag, word, strings.Join(list.know, ", "))
			}
		}
	}
	for _, name := range c.Engine {
		if _, err := reactor.ParseEngine(name); err != nil {
			return err
		}
	}
	if len(c.Engine) == 0 || c.Rate <= 0 || c.Many <= 0 || c.Steps < 0 || c.Rounds <= 0 {
		return errors.New("--rate, --many and --rounds are above 0, --steps not below, and there is an engine")
	}
	return nil
}

// procsOf returns the values of GOMAXPROCS that the words mean for so many
// loops, each once, in order.
func procsOf(words []string, loops int) ([]int, error) {
	var list []int
	for _, word := range words {
		n, err := procsFor(word, loops)
		if err != nil {
			return nil, fmt.Errorf("--procs: %q is not loops, loops+N, N*loops or N, from 1 on", word)
		}
		list = append(list, n)
	}
	if len(list) == 0 {
		return nil, errors.New("--procs: nothing to measure")
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

func procsFor(word string, loops int) (n int, err error) {
	if word == "loops" {
		return loops, nil
	}
	if more, ok := strings.CutPrefix(word, "loops+"); ok {
		n, err = strconv.Atoi(more)
		n += loops
	} else if times, ok := strings.CutSuffix(word, "*loops"); ok {
		n, err = strconv.Atoi(times)
		n *= loops
	} else {
		n, err = strconv.Atoi(word)
	}
	if err == nil && n < 1 {
		err = strconv.ErrRange
	}
	return n, err
}
