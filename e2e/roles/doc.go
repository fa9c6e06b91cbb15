// Package roles tests agents and a controller together, on the nodes of the lab.
package roles
