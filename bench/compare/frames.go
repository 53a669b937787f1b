package main

import (
	"encoding/binary"
	"errors"
)

// The fan-out protocol: a connection whose first byte is 'S' subscribes. One whose first
// byte is 'P' publishes messages: 'P', size as 4 bytes big-endian, payload, and so on.
// Subscribers get the payloads and nothing else.
const (
	frameHead = 5
	frameMax  = 64 << 20
)

var errFrame = errors.New("no frame of the fan-out protocol")

// role is what the first byte of a connection made of it.
type role uint8

const (
	unknown role = iota
	subscriber
	publisher
)

// member is the state of a connection in a fan-out.
type member struct {
	role role
	head [frameHead]byte
	have int    // bytes of head that have come
	body []byte // a payload that comes in several reads
}

// feed takes what was received. It calls join once for a subscriber, and emit for each
// payload of a publisher; the payload is valid until emit returns.
func (m *member) feed(p []byte, join func(), emit func(payload []byte)) error {
	if m.role == unknown && len(p) > 0 {
		if p[0] == 'S' {
			m.role = subscriber
			join()
		} else {
			m.role = publisher
		}
	}
	if m.role != publisher {
		return nil
	}
	for len(p) > 0 {
		if m.have < frameHead {
			n := copy(m.head[m.have:], p)
			m.have += n
			p = p[n:]
			if m.head[0] != 'P' {
				return errFrame
			}
			continue
		}
		size := int(binary.BigEndian.Uint32(m.head[1:]))
		if size > frameMax {
			return errFrame
		}
		rest := min(size-len(m.body), len(p))
		switch {
		case size == 0:
		case rest == size: // whole and in place
			emit(p[:size])
		default:
			if m.body == nil {
				m.body = make([]byte, 0, size)
			}
			if m.body = append(m.body, p[:rest]...); len(m.body) < size {
				return nil
			}
			emit(m.body)
			m.body = nil
		}
		p = p[rest:]
		m.have = 0
	}
	return nil
}
