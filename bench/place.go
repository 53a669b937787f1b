package main

import (
	"fmt"
	"slices"

	"github.com/penstock-go/penstock/bench/internal/host"
)

// layout says who runs where.
func (b *bench) layout() string {
	server, generator := b.place(1)
	switch {
	case b.target != "":
		return fmt.Sprintf("generator on CPU %v; where the server runs is not known", generator)
	case slices.Equal(server, generator):
		return fmt.Sprintf("server and generator on CPU %v", server)
	case shared(server, generator, host.Core):
		return fmt.Sprintf("server with one loop on CPU %v, generator on %v, which is the other thread of the same core: both are slower than on cores of their own", server, generator)
	}
	return fmt.Sprintf("server with one loop on CPU %v, generator on %v", server, generator)
}

// place returns the CPUs of a server with so many loops and those of the generator,
// which gets up to two for each of the server's.
func (b *bench) place(loops int) (server, generator []int) {
	return place(b.cpus, loops, host.Core)
}

// place keeps the generator off the cores of the server, if there are others: two
// threads of a core slow each other down.
func place(cpus []int, loops int, core func(int) string) (server, generator []int) {
	if loops >= len(cpus) {
		return cpus, cpus
	}
	server, rest := cpus[:loops], cpus[loops:]
	apart := slices.DeleteFunc(slices.Clone(rest), func(cpu int) bool { return shared(server, []int{cpu}, core) })
	if len(apart) > 0 {
		rest = apart
	}
	return server, rest[:min(len(rest), 2*loops)]
}

// shared reports whether processors of either are threads of one core.
func shared(a, b []int, core func(int) string) bool {
	return slices.ContainsFunc(a, func(x int) bool {
		return core(x) != "" && slices.ContainsFunc(b, func(y int) bool { return core(x) == core(y) })
	})
}
