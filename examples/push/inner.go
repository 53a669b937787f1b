package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// routes are those of the inner port.
func (p *push) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /users/{uid}", func(w http.ResponseWriter, r *http.Request) {
		line, ok := body(w, r)
		if !ok {
			return
		}
		reached, found := p.users.send(r.PathValue("uid"), line)
		switch {
		case !found:
			answer(w, http.StatusNotFound, reached)
		case reached.Taken == 0:
			answer(w, http.StatusServiceUnavailable, reached)
		default:
			answer(w, http.StatusOK, reached)
		}
	})
	mux.HandleFunc("POST /all", func(w http.ResponseWriter, r *http.Request) {
		line, ok := body(w, r)
		if !ok {
			return
		}
		reached, err := p.toAll(r.Context(), line)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		answer(w, http.StatusOK, reached)
	})
	mux.HandleFunc("GET /users", func(w http.ResponseWriter, _ *http.Request) {
		users, conns := p.users.len()
		answer(w, http.StatusOK, map[string]int{"users": users, "connections": conns})
	})
	return mux
}

// body returns the one line of a request with its end, or answers why there is none.
func body(w http.ResponseWriter, r *http.Request) (line []byte, ok bool) {
	line, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var long *http.MaxBytesError
	switch line = bytes.TrimRight(line, "\r\n"); {
	case errors.As(err, &long):
		http.Error(w, "the message is longer than 64 KiB", http.StatusRequestEntityTooLarge)
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	case len(line) == 0, bytes.IndexByte(line, '\n') >= 0:
		http.Error(w, "the message is not one line", http.StatusBadRequest)
	default:
		return append(line, '\n'), true
	}
	return nil, false
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // Who asked may be gone.
}
