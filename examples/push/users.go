package main

import (
	"slices"
	"sync"

	"github.com/penstock-go/penstock/conn"
)

// users is who is here: by uid, the connections of all loops.
//
// Thread: any.
type users struct {
	mu   sync.Mutex
	refs map[string][]conn.Ref
}

// reach is what became of a message, in connections.
type reach struct {
	Taken   uint64 `json:"taken"`
	Refused uint64 `json:"refused"` // the client does not read, and its queue is full
	Gone    uint64 `json:"gone"`    // it was closed meanwhile
}

func (u *users) add(uid string, ref conn.Ref) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.refs[uid] = append(u.refs[uid], ref)
}

// remove forgets one connection of uid, and the uid with its last one.
func (u *users) remove(uid string, id uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	rest := slices.DeleteFunc(u.refs[uid], func(r conn.Ref) bool { return r.ID() == id })
	if u.refs[uid] = rest; len(rest) == 0 {
		delete(u.refs, uid)
	}
}

// send sends a line to every connection of uid; found is false when it has none.
// A Ref whose connection has closed meanwhile reaches nobody.
func (u *users) send(uid string, line []byte) (r reach, found bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, ref := range u.refs[uid] {
		switch ref.Write(line) {
		case conn.Queued, conn.Full:
			r.Taken++
		case conn.Rejected:
			r.Refused++
		case conn.Closed:
			r.Gone++
		}
	}
	return r, len(u.refs[uid]) > 0
}

// len returns how many users are here, and with how many connections.
func (u *users) len() (users, conns int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, refs := range u.refs {
		conns += len(refs)
	}
	return len(u.refs), conns
}
