package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
)

// Initiator is what the handler calls.
type Initiator interface {
	Attach(ctx context.Context, r AttachRequest) (Attachment, error)
	Detach(ctx context.Context, volume string) error
	List(ctx context.Context, volume string) ([]Attachment, error)
	Health() Health
}

// NewHandler offers i over HTTP.
func NewHandler(i Initiator) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+PathAttach, func(w http.ResponseWriter, r *http.Request) {
		var in AttachRequest
		if err := decode(w, r, &in); err != nil {
			answer(w, nil, err)
			return
		}
		if err := in.Validate(); err != nil {
			answer(w, nil, err)
			return
		}
		out, err := i.Attach(r.Context(), in)
		answer(w, out, err)
	})
	mux.HandleFunc("POST "+PathDetach, func(w http.ResponseWriter, r *http.Request) {
		var in DetachRequest
		if err := decode(w, r, &in); err != nil {
			answer(w, nil, err)
			return
		}
		if err := ValidateVolume(in.Volume); err != nil {
			answer(w, nil, err)
			return
		}
		answer(w, struct{}{}, i.Detach(r.Context(), in.Volume))
	})
	mux.HandleFunc("GET "+PathVolumes, func(w http.ResponseWriter, r *http.Request) {
		list, err := i.List(r.Context(), r.URL.Query().Get(ParameterVolume))
		answer(w, VolumeList{Volumes: list}, err)
	})
	mux.HandleFunc("GET "+PathHealth, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, i.Health(), nil)
	})
	return mux
}

func decode(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, MaxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return Errorf(CodeInvalid, "decode request: %v", err)
	}
	return nil
}

// answer sends out, or err as an Error.
func answer(w http.ResponseWriter, out any, err error) {
	status := http.StatusOK
	if err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			e = Errorf(CodeInternal, "%v", err)
		}
		// The whole chain is the message: what was tried is worth as much as what went wrong.
		out, status = &Error{Code: e.Code, Message: err.Error()}, e.Code.httpStatus()
	}
	text, err := json.Marshal(out)
	if err != nil {
		http.Error(w, "encode answer", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A caller that has gone learns nothing; it will ask again.
	_, _ = w.Write(text)
}
