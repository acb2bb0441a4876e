// Package foreign has plug-ins that are not signet's run in a real daemon: honest
// ones in two languages, and one that was taken over. All of it is tests.
package foreign
