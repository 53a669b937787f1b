package conn

import (
	"bufio"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An io_uring ends some tenths of a second after a process that was killed, and
// until then keeps the sockets it was listening on.
const (
	dyingMost = time.Second
	dyingStep = 20 * time.Millisecond
)

// outlive listens, again and again for up to dyingMost while the address is in
// use and no process is seen that listens there: who had it is dying.
func outlive(listen func() error, held func() bool) error {
	err := listen()
	if !errors.Is(err, unix.EADDRINUSE) || held() {
		return err
	}
	for end := time.Now().Add(dyingMost); errors.Is(err, unix.EADDRINUSE) && time.Now().Before(end); {
		time.Sleep(dyingStep)
		err = listen()
	}
	return err
}

// portHeld reports whether a process is seen that has a socket on port: of TCP one
// that listens, of UDP any.
func portHeld(network string, port int) bool {
	sockets := map[string]bool{}
	for _, table := range []string{"/proc/self/net/" + network, "/proc/self/net/" + network + "6"} {
		lines(table, func(f []string) bool {
			// sl local remote st queues timer retransmits uid timeout inode
			if len(f) < 10 || network == "tcp" && f[3] != "0A" {
				return f[0] == "sl" // Those that listen are told first.
			}
			_, hex, _ := strings.Cut(f[1], ":")
			if n, err := strconv.ParseUint(hex, 16, 16); err == nil && int(n) == port {
				sockets["socket:["+f[9]+"]"] = true
			}
			return true
		})
	}
	return anybodyHas(sockets)
}

// nameHeld is portHeld for the name of a unix socket.
func nameHeld(name string) bool {
	sockets := map[string]bool{}
	lines("/proc/self/net/unix", func(f []string) bool {
		// Num RefCount Protocol Flags Type St Inode Path
		if len(f) >= 8 && strings.Join(f[7:], " ") == name {
			sockets["socket:["+f[6]+"]"] = true
		}
		return true
	})
	return anybodyHas(sockets)
}

// lines gives do the fields of each line of a file until it wants no more.
func lines(name string, do func(fields []string) bool) {
	f, err := os.Open(name)
	if err != nil {
		return
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 0 && !do(fields) {
			return
		}
	}
}

// anybodyHas reports whether a process, as far as we may see, has one of these
// sockets open. It looks no longer than dyingMost, and at this process first.
func anybodyHas(sockets map[string]bool) bool {
	if len(sockets) == 0 {
		return false
	}
	end := time.Now().Add(dyingMost)
	if processHas("self", sockets, end) {
		return true
	}
	dir, err := os.Open("/proc")
	if err != nil {
		return false
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if name[0] >= '1' && name[0] <= '9' && processHas(name, sockets, end) {
			return true
		}
	}
	return false
}

func processHas(pid string, sockets map[string]bool, end time.Time) bool {
	path := "/proc/" + pid + "/fd"
	dir, err := os.Open(path)
	if err != nil {
		return false
	}
	defer dir.Close()
	for time.Now().Before(end) {
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			if to, err := os.Readlink(path + "/" + name); err == nil && sockets[to] {
				return true
			}
		}
		if err != nil {
			return false
		}
	}
	return false
}
