package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/codec"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// Bounds of what a guest may type, in bytes.
const (
	lineMost = 1 << 10
	nameMost = 32
)

const lobby = "lobby"

// house is the rooms, each a topic, and the names that are taken. One house serves
// the guests of all loops.
type house struct {
	rooms *conn.Topics
	names sync.Map
}

// guest is one connection; it is kept there, and seen on its loop only.
type guest struct{ name, room string }

// newHouse returns the handler of a listener.
func newHouse(g *reactor.Group) (conn.Handler, error) {
	return codec.New(codec.Line{}, &house{rooms: conn.NewTopics(g)}, codec.Config{Limit: lineMost, Refusal: refusal})
}

func refusal(err error) []byte {
	if errors.Is(err, codec.ErrTooLong) {
		return fmt.Appendf(nil, "a line has at most %d bytes\n", lineMost)
	}
	return nil
}

// OnOpen implements codec.Handler.
func (h *house) OnOpen(c *conn.Conn) { reply(c, "What is your name?") }

// OnMessage implements codec.Handler.
func (h *house) OnMessage(c *conn.Conn, line []byte) {
	text := plain(line)
	g, named := c.User().(*guest)
	word, rest, _ := strings.Cut(text, " ")
	switch {
	case !named:
		h.enter(c, text)
	case text == "":
	case word == "/join":
		h.move(c, g, strings.TrimSpace(rest))
	case word == "/who":
		reply(c, "%d in %s", h.rooms.Len(g.room), g.room)
	case word == "/quit":
		reply(c, "Good-bye, %s.", g.name)
		c.Close()
	case word[0] == '/':
		reply(c, "There is /join ROOM, /who and /quit.")
	default:
		h.say(g.room, c, "%s: %s", g.name, text)
	}
}

// OnClose implements codec.Handler.
func (h *house) OnClose(c *conn.Conn, _ error) {
	if g, named := c.User().(*guest); named {
		h.names.Delete(g.name) // Before anybody hears that it is free.
		h.say(g.room, c, "%s has left.", g.name)
	}
}

// enter gives a guest a name.
func (h *house) enter(c *conn.Conn, name string) {
	if name == "" || len(name) > nameMost {
		reply(c, "A name has 1 to %d bytes. What is yours?", nameMost)
		return
	}
	if _, taken := h.names.LoadOrStore(name, true); taken {
		reply(c, "Somebody is called %s. What is your name?", name)
		return
	}
	g := &guest{name: name}
	c.SetUser(g)
	c.Established() // Who says no name has a minute.
	h.move(c, g, lobby)
}

// move has a guest go to another room.
func (h *house) move(c *conn.Conn, g *guest, room string) {
	if room == "" || len(room) > nameMost || room == g.room {
		reply(c, "A room has a name of 1 to %d bytes; you are in %s.", nameMost, g.room)
		return
	}
	if g.room != "" {
		h.rooms.Leave(g.room, c)
		h.say(g.room, c, "%s has gone to %s.", g.name, room)
	}
	if g.room = room; h.rooms.Join(room, c) == nil {
		reply(c, "%d in %s. There is /join ROOM, /who and /quit.", h.rooms.Len(room), room)
		h.say(room, c, "%s is here.", g.name)
	}
}

// say tells a line to everybody in a room but c. It is made once for all.
func (h *house) say(room string, c *conn.Conn, format string, args ...any) {
	line := buf.NewShared(fmt.Appendf(nil, format+"\n", args...))
	defer line.Release()
	h.rooms.Broadcast(room, conn.Publication{Shared: line, Except: c.ID()})
}

// reply tells a line to one guest.
func reply(c *conn.Conn, format string, args ...any) {
	codec.Send(c, codec.Line{}, fmt.Appendf(nil, format, args...))
}

// plain is what a guest has typed, without what would command the terminals of
// others.
func plain(line []byte) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, string(bytes.ToValidUTF8(line, nil))))
}
