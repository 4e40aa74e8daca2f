package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/deploy"
)

// bodyOf reads a body of one JSON value.
func bodyOf[T any](w http.ResponseWriter, r *http.Request) (T, error) {
	var value T
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequestBytes))
	body.DisallowUnknownFields()
	if err := body.Decode(&value); err != nil {
		return value, readError(err)
	}
	if _, err := body.Token(); !errors.Is(err, io.EOF) {
		return value, fmt.Errorf("%w: there is more than one JSON value in the body", errBadRequest)
	}
	return value, nil
}

func (q DeployRequest) options() runtime.DeployOptions {
	return runtime.DeployOptions{CreateTopics: q.CreateTopics, Partitions: q.Partitions, New: q.New}
}

func (s *Server) postDeployment(w http.ResponseWriter, r *http.Request) (any, error) {
	q, err := bodyOf[DeployRequest](w, r)
	if err != nil {
		return nil, err
	}
	status, err := s.runtime.Deploy(r.Context(), q.Spec, q.options())
	if err != nil {
		return nil, err
	}
	return statusOf(status), nil
}

func (s *Server) postPlan(w http.ResponseWriter, r *http.Request) (any, error) {
	q, err := bodyOf[DeployRequest](w, r)
	if err != nil {
		return nil, err
	}
	p, err := s.runtime.Plan(r.Context(), q.Spec, q.options())
	if err != nil {
		return nil, err
	}
	return Plan{
		Action: p.Action, Before: p.Before, After: p.After,
		Changes: append([]deploy.Change{}, p.Changes...), CreateTopics: append([]string{}, p.CreateTopics...),
	}, nil
}

func (s *Server) rollback(w http.ResponseWriter, r *http.Request) (any, error) {
	q, err := bodyOf[RollbackRequest](w, r)
	if err != nil {
		return nil, err
	}
	if q.Version < 0 {
		return nil, fmt.Errorf("%w: version %d: versions begin at 1", deploy.ErrInvalid, q.Version)
	}
	status, err := s.runtime.Rollback(r.Context(), r.PathValue("name"), q.Version, q.By)
	if err != nil {
		return nil, err
	}
	return statusOf(status), nil
}

func (s *Server) reset(w http.ResponseWriter, r *http.Request) (any, error) {
	q, err := bodyOf[ResetRequest](w, r)
	if err != nil {
		return nil, err
	}
	changes, err := s.runtime.Reset(r.Context(), r.PathValue("name"), runtime.ResetOptions{To: q.To, Partitions: q.Partitions, DryRun: q.DryRun})
	if err != nil {
		return nil, err
	}
	answer := make([]OffsetChange, len(changes))
	for i, c := range changes {
		answer[i] = OffsetChange{Topic: c.Topic, Partition: c.Partition, From: c.From, To: c.To}
	}
	return answer, nil
}

func (s *Server) history(_ http.ResponseWriter, r *http.Request) (any, error) {
	history, err := s.runtime.History(r.Context(), r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	answer := make([]Version, len(history))
	for i, v := range history {
		answer[i] = Version{Spec: v.Spec, Current: v.Current, Changes: v.Changes}
		if v.Err != nil {
			answer[i].Error = v.Err.Error()
		}
	}
	return answer, nil
}
