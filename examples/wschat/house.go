package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/penstock-go/penstock/ws"
)

// Bounds of what a guest may say.
const (
	lineMost = 4 << 10 // bytes of JSON
	nameMost = 40      // characters
)

// line is what goes both ways, as JSON. From is "" for what the house itself says.
type line struct {
	From string `json:"from,omitempty"`
	Text string `json:"text"`
}

// house is the rooms, each a topic. One house serves the guests of all loops.
type house struct{ rooms *ws.Topics }

// guest is one connection; it is kept there, and seen on its loop only.
type guest struct{ name, room string }

// OnUpgrade implements ws.UpgradeHandler: a guest says its name and its room in the
// address.
func (h *house) OnUpgrade(r *ws.Request) {
	query, err := url.ParseQuery(r.Query())
	g := &guest{name: clean(query.Get("name")), room: clean(query.Get("room"))}
	if err != nil || g.name == "" || g.room == "" {
		r.Refuse(http.StatusBadRequest, "name and room have 1 to 40 characters")
		return
	}
	r.SetUser(g)
}

// clean returns a name, or "" for what cannot be one.
func clean(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if utf8.RuneCountInString(s) > nameMost || !utf8.ValidString(s) {
		return ""
	}
	return s
}

// OnOpen implements ws.Handler.
func (h *house) OnOpen(c *ws.Conn) {
	g := c.User().(*guest)
	h.say(g.room, line{Text: g.name + " is here."})
	if err := h.rooms.Join(g.room, c); err != nil {
		c.Close(ws.Internal, err.Error())
		return
	}
	_, _ = c.SendJSON(line{Text: "You are in " + g.room + "."})
}

// OnMessage implements ws.Handler.
func (h *house) OnMessage(c *ws.Conn, m *ws.Message) {
	var l line
	if m.Op != ws.Text || m.JSON(&l) != nil || strings.TrimSpace(l.Text) == "" {
		c.Close(ws.Policy, "a line is JSON with a text")
		return
	}
	g := c.User().(*guest)
	h.say(g.room, line{From: g.name, Text: l.Text})
}

// OnClose implements ws.Handler.
func (h *house) OnClose(c *ws.Conn, _ *ws.CloseError) {
	g := c.User().(*guest)
	h.say(g.room, line{Text: g.name + " has left."})
}

// say sends a line to everybody in a room. It is made once for all.
func (h *house) say(room string, l line) {
	p, err := json.Marshal(l)
	if err != nil {
		return
	}
	h.rooms.Publish(room, ws.Prepare(ws.Text, p))
}
