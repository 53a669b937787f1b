package ws

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// deflateName is the extension of RFC 7692.
const deflateName = "permessage-deflate"

// Its parameters (RFC 7692, 7.1).
const (
	serverNoTakeover = "server_no_context_takeover"
	clientNoTakeover = "client_no_context_takeover"
	serverWindow     = "server_max_window_bits"
	clientWindow     = "client_max_window_bits"
)

// Bounds of a window, as powers of two.
const (
	minBits = 8
	maxBits = 15
)

// offer is an element of Sec-WebSocket-Extensions for permessage-deflate.
type offer struct {
	serverNoTakeover, clientNoTakeover bool
	serverBits, clientBits             uint8 // 0: not there
	anyClientBits                      bool  // client_max_window_bits without a value
}

// agreed is what the two sides have come to, in the terms of this side. The zero
// value is a connection without compression.
type agreed struct {
	on                         bool
	sendTakeover, recvTakeover bool
	sendBits, recvBits         uint8
}

var errExtension = errors.New("a list of extensions that cannot be read")

// nextExtension reads the next element of a list of extensions (RFC 6455, 9.1).
// ours says that it is permessage-deflate with parameters that may be offered.
func nextExtension(list []byte) (o offer, ours bool, rest []byte, err error) {
	element, rest := nextItem(list, ',')
	if element == nil {
		return o, false, nil, nil // Commas alone.
	}
	name, params := nextItem(element, ';')
	if !isToken(name) {
		return o, false, nil, errExtension
	}
	ours = equalFold(name, deflateName)
	for len(params) > 0 {
		var param []byte
		if param, params = nextItem(params, ';'); param == nil {
			break
		}
		key, value, hasValue := bytes.Cut(param, []byte("="))
		key, value = trim(key), trim(value)
		if !isToken(key) || hasValue && !unquote(&value) {
			return o, false, nil, errExtension
		}
		ours = ours && o.set(key, value, hasValue)
	}
	return o, ours, rest, nil
}

// unquote turns a token or a quoted string whose content is a token into the
// token; false says that it is neither.
func unquote(value *[]byte) bool {
	v := *value
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		v = v[1 : len(v)-1]
		if bytes.IndexByte(v, '\\') >= 0 {
			var plain []byte
			for i := 0; i < len(v); i++ {
				if v[i] == '\\' && i+1 < len(v) {
					i++
				}
				plain = append(plain, v[i])
			}
			v = plain
		}
	}
	*value = v
	return isToken(v)
}

// set notes a parameter; false says that it is unknown, there twice, or has a
// value that it may not have.
func (o *offer) set(key, value []byte, hasValue bool) bool {
	switch string(key) {
	case serverNoTakeover:
		was := o.serverNoTakeover
		o.serverNoTakeover = true
		return !was && !hasValue
	case clientNoTakeover:
		was := o.clientNoTakeover
		o.clientNoTakeover = true
		return !was && !hasValue
	case serverWindow:
		was := o.serverBits != 0
		o.serverBits = parseBits(value)
		return !was && o.serverBits != 0
	case clientWindow:
		was := o.clientBits != 0 || o.anyClientBits
		if o.anyClientBits = !hasValue; hasValue {
			o.clientBits = parseBits(value)
		}
		return !was && (o.anyClientBits || o.clientBits != 0)
	}
	return false
}

// parseBits reads a number from 8 to 15 without leading zeros, or returns 0.
func parseBits(p []byte) uint8 {
	n, err := strconv.ParseUint(string(p), 10, 8)
	if err != nil || n < minBits || n > maxBits || p[0] == '0' || p[0] == '+' {
		return 0
	}
	return uint8(n)
}

// acceptOffer is the server's side: it takes the first offer of the list that it
// can meet. Offers that it cannot meet, and other extensions, are passed over.
func (d *Deflate) acceptOffer(list []byte) (taken agreed, of offer, err error) {
	for len(list) > 0 {
		o, ours, rest, err := nextExtension(list)
		if err != nil {
			return agreed{}, offer{}, err
		}
		list = rest
		if ours && d != nil && !taken.on {
			taken, of = d.meet(o), o
		}
	}
	return taken, of, nil
}

// meet returns what comes of an offer.
func (d *Deflate) meet(o offer) agreed {
	a := agreed{
		on:           true,
		sendTakeover: d.SendTakeover && !o.serverNoTakeover,
		recvTakeover: d.RecvTakeover && !o.clientNoTakeover,
		sendBits:     maxBits,
		recvBits:     maxBits, // A client that does not offer to use less may use all.
	}
	if a.sendTakeover {
		a.sendBits = uint8(d.SendBits)
	}
	if o.serverBits != 0 {
		a.sendBits = min(a.sendBits, o.serverBits)
	}
	if a.recvTakeover && (o.clientBits != 0 || o.anyClientBits) {
		a.recvBits = uint8(d.RecvBits)
	}
	if o.clientBits != 0 {
		a.recvBits = min(a.recvBits, o.clientBits)
	}
	if int(a.recvBits) > d.RecvBits {
		a.recvTakeover = false // It would need a larger window than we keep.
	}
	return a
}

func (a agreed) appendAnswer(dst []byte, o offer) []byte {
	dst = append(dst, deflateName...)
	if !a.sendTakeover {
		dst = append(dst, "; "+serverNoTakeover...)
	}
	if !a.recvTakeover {
		dst = append(dst, "; "+clientNoTakeover...)
	}
	if o.serverBits != 0 {
		dst = strconv.AppendUint(append(dst, "; "+serverWindow+"="...), uint64(a.sendBits), 10)
	}
	if o.clientBits != 0 || o.anyClientBits {
		dst = strconv.AppendUint(append(dst, "; "+clientWindow+"="...), uint64(a.recvBits), 10)
	}
	return dst
}

// asks returns the windows that a client asks for: what is kept from message to
// message is bounded, nothing else.
func (d *Deflate) asks() (send, recv int) {
	send, recv = maxBits, maxBits
	if d.SendTakeover {
		send = d.SendBits
	}
	if d.RecvTakeover {
		recv = d.RecvBits
	}
	return send, recv
}

// appendOffers is the client's side: it appends what is asked for, as a header. Some
// servers know no bound for their window: they are asked next to keep none. It is one
// list, since Autobahn answers a second header of this name with 400.
func (d *Deflate) appendOffers(dst []byte) []byte {
	_, recv := d.asks()
	dst = d.appendOffer(append(dst, "Sec-WebSocket-Extensions: "...), recv, !d.RecvTakeover)
	if recv < maxBits {
		dst = d.appendOffer(append(dst, ", "...), maxBits, true)
	}
	return append(dst, "\r\n"...)
}

// appendOffer appends an offer with a bound for the server's window, or without a
// takeover on its side.
func (d *Deflate) appendOffer(dst []byte, recv int, noTakeover bool) []byte {
	send, _ := d.asks()
	dst = append(dst, deflateName...)
	if recv < maxBits {
		dst = strconv.AppendInt(append(dst, "; "+serverWindow+"="...), int64(recv), 10)
	}
	if noTakeover {
		dst = append(dst, "; "+serverNoTakeover...)
	}
	if !d.SendTakeover {
		dst = append(dst, "; "+clientNoTakeover...)
	}
	dst = append(dst, "; "+clientWindow...)
	if send < maxBits {
		dst = strconv.AppendInt(append(dst, '='), int64(send), 10)
	}
	return dst
}

// readAnswer is the client's reading of the server's answer. Whatever was not
// asked for is an error (RFC 6455, 4.1; RFC 7692, 7.1). A server that keeps no window
// may have any for one message: nothing is kept of it here either.
func (d *Deflate) readAnswer(list []byte) (agreed, error) {
	if len(trim(list)) == 0 {
		return agreed{}, nil
	}
	o, ours, rest, err := nextExtension(list)
	switch {
	case err != nil:
		return agreed{}, err
	case !ours || d == nil || len(trim(rest)) > 0:
		return agreed{}, fmt.Errorf("extensions that were not offered: %.*q", quoteMost, list)
	}
	send, recv := d.asks()
	switch {
	case o.anyClientBits,
		recv < maxBits && !o.serverNoTakeover && (o.serverBits == 0 || int(o.serverBits) > recv),
		!d.RecvTakeover && !o.serverNoTakeover:
		return agreed{}, fmt.Errorf("parameters of an extension that contradict the offer: %.*q", quoteMost, list)
	}
	a := agreed{
		on:           true,
		sendTakeover: d.SendTakeover && !o.clientNoTakeover,
		recvTakeover: !o.serverNoTakeover,
		sendBits:     uint8(send),
		recvBits:     maxBits,
	}
	if o.clientBits != 0 { // A server may ignore the bound that was offered to it, and allow more.
		a.sendBits = min(a.sendBits, o.clientBits)
	}
	if o.serverBits != 0 {
		a.recvBits = o.serverBits
	}
	return a, nil
}
