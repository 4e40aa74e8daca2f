// Package phrasebook translates short texts word for word and phrase for phrase
// with a glossary. It is a phrasebook, not a language model: it knows what the
// glossary says, lets articles and adjectives agree with their noun, and passes
// through what it does not know.
//
// What it promises: white space, punctuation, numbers, addresses (URLs, e-mail,
// paths, identifiers) and unknown words come out byte for byte as they went in,
// in their order; the exceptions are where the target language writes two words
// as one ("de el" → "del", "le arbre" → "l'arbre") and where an adjective changes
// places with its noun. Case follows the source. No input makes it panic. A
// Translator allocates nothing per text once its buffers have grown.
//
// A Glossary is immutable and may be shared; a Translator belongs to one caller at
// a time.
package phrasebook
