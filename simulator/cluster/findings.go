package cluster

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Findings says what is wrong with a pod: PodNotRunning or PodNotReady. These
// are warnings: a packet to the pod's address does not ask for its state.
func (p *Pod) Findings() []verdict.Finding {
	where := verdict.Where{Pod: p.String(), Node: p.Node, Resource: "pod " + p.String()}
	status := &p.Object.Status
	if p.Phase != corev1.PodRunning {
		phase := p.Phase
		if phase == "" {
			phase = corev1.PodUnknown
		}
		evidence := []string{"status.phase: " + string(phase)}
		if status.Reason != "" {
			evidence = append(evidence, "status.reason: "+status.Reason)
		}
		return []verdict.Finding{verdict.NewFinding(verdict.PodNotRunning, where, append(evidence, p.containerEvidence()...), p, phase)}
	}
	evidence := p.containerEvidence()
	unready := len(p.NotReady) > 0
	for _, c := range status.Conditions {
		// Without this condition nobody has judged the pod, as in a manifest
		// written by hand: that is no fault.
		if c.Type == corev1.PodReady && c.Status != corev1.ConditionTrue {
			unready = true
			evidence = append(evidence, strings.TrimSpace(fmt.Sprintf("status.conditions Ready: %s %s", c.Status, c.Reason)))
		}
	}
	if !unready && !p.Terminating {
		return nil
	}
	if p.Terminating {
		evidence = append(evidence, "metadata.deletionTimestamp: "+p.Object.DeletionTimestamp.UTC().Format("2006-01-02T15:04:05Z"))
		return []verdict.Finding{verdict.NewFindingf(verdict.PodNotReady, where, evidence, "pod %s is not ready: it is terminating", p)}
	}
	if len(p.NotReady) == 0 {
		return []verdict.Finding{verdict.NewFindingf(verdict.PodNotReady, where, evidence,
			"pod %s is not ready, though each pod container is: a readiness gate, or a node that is not ready", p)}
	}
	return []verdict.Finding{verdict.NewFinding(verdict.PodNotReady, where, evidence,
		strings.Join(p.NotReady, ", ")+" of "+p.String())}
}

func (p *Pod) containerEvidence() []string {
	var evidence []string
	for _, s := range p.Object.Status.ContainerStatuses {
		if s.Ready {
			continue
		}
		text := "status.containerStatuses " + s.Name + ": not ready"
		switch {
		case s.State.Waiting != nil:
			text += ", waiting " + s.State.Waiting.Reason
		case s.State.Terminated != nil:
			text += fmt.Sprintf(", terminated %s (exit code %d)", s.State.Terminated.Reason, s.State.Terminated.ExitCode)
		}
		if s.RestartCount > 0 {
			text += fmt.Sprintf(", restarted %d times", s.RestartCount)
		}
		evidence = append(evidence, text)
	}
	return evidence
}

// Findings says what is wrong with a node: NodeNotReady, a warning.
func (n *Node) Findings() []verdict.Finding {
	for _, c := range n.Object.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
			evidence := strings.TrimSpace(fmt.Sprintf("status.conditions Ready: %s %s", c.Status, c.Reason))
			where := verdict.Where{Node: n.Name, Resource: "node " + n.Name}
			return []verdict.Finding{verdict.NewFinding(verdict.NodeNotReady, where, []string{evidence}, n.Name)}
		}
	}
	return nil
}
