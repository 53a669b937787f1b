package main

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

const (
	maxUID  = 64
	maxBody = 64 << 10
	// everybody is the topic that each user joins.
	everybody = "all"
)

var clientConfig = conn.Config{
	HighWater:        256 << 10, // What a client that does not read may cost.
	HandshakeTimeout: 10 * time.Second,
	KeepAlive:        conn.KeepAlive{Idle: 55 * time.Second, Interval: 10 * time.Second, Count: 3},
}

var errUID = errors.New("a uid is 1 to 64 letters, digits and -_.@")

// push is the handler of the clients, and what is known of them.
type push struct {
	users users
	all   *conn.Topics
}

func newPush(g *reactor.Group) *push {
	return &push{users: users{refs: map[string][]conn.Ref{}}, all: conn.NewTopics(g)}
}

// client is the state of one connection, on its loop.
type client struct {
	uid  string // "" before the first line is complete
	line []byte // of it
}

// OnOpen implements conn.Handler.
func (p *push) OnOpen(c *conn.Conn) { c.SetUser(&client{}) }

// OnData implements conn.Handler.
func (p *push) OnData(c *conn.Conn, in *buf.Buf) {
	u := c.User().(*client)
	if u.uid != "" {
		return // A heartbeat.
	}
	line, _, whole := bytes.Cut(in.Bytes(), []byte{'\n'})
	u.line = append(u.line, line[:min(len(line), maxUID+2)]...) // With CR, and one too many.
	switch uid := string(bytes.TrimSuffix(u.line, []byte{'\r'})); {
	case whole && validUID(uid):
		u.uid, u.line = uid, nil
		p.enter(c, uid)
	case whole || len(u.line) > maxUID+1:
		c.CloseError(conn.ProtocolError, errUID, []byte("ERR "+errUID.Error()+"\n"))
	}
}

// enter makes c one of the connections of uid.
func (p *push) enter(c *conn.Conn, uid string) {
	c.Established()
	if p.all.Join(everybody, c) != nil {
		return // It is being closed.
	}
	p.users.add(uid, c.Ref())
	_, _ = c.Write([]byte("OK " + uid + "\n")) // Behind it every message reaches the client.
}

// OnClose implements conn.Handler. The topic is left by itself.
func (p *push) OnClose(c *conn.Conn, _ error) {
	if u := c.User().(*client); u.uid != "" {
		p.users.remove(u.uid, c.ID())
	}
}

// toAll sends a line to everybody and waits until each loop has seen to its users.
func (p *push) toAll(ctx context.Context, line []byte) (r reach, err error) {
	message := buf.NewShared(line)
	defer message.Release()
	done := make(chan conn.Reach, 1)
	p.all.Broadcast(everybody, conn.Publication{Shared: message, Done: func(all conn.Reach) { done <- all }})
	select {
	case all := <-done:
		return reach{Taken: all.Taken, Refused: all.Refused, Gone: all.Closed}, nil
	case <-ctx.Done():
		return r, ctx.Err()
	}
}

func validUID(s string) bool {
	if len(s) == 0 || len(s) > maxUID {
		return false
	}
	for _, r := range []byte(s) {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		case r == '-', r == '_', r == '.', r == '@':
		default:
			return false
		}
	}
	return true
}
