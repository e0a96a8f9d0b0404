"use strict";
// Search over cases, each the lower-case text of all that is shown of it, a line for every value.
// searchOver(haystack)(text) tells of the number of a case whether it has all phrases of the text.
const searchOver = (haystack) => {
  // "wrong isup 3" is "wrong" and "isup 3": words that stand together in a case are one phrase, and a number belongs to the
  // word before it.
  const phrasesOf = (text) => {
    const words = text.split(" ");
    const phrases = [];
    for (let start = 0; start < words.length;) {
      const ends = words.map((_, place) => place + 1).filter((end) => end > start && !/^\d+$/.test(words[end] ?? ""));
      const phraseTo = (end) => words.slice(start, end).join(" ");
      const end = ends.findLast((each) => haystack.some((found) => found.includes(phraseTo(each)))) ?? ends[0];
      phrases.push(phraseTo(end));
      start = end;
    }
    return phrases;
  };
  return (text) => {
    const phrases = phrasesOf(text.trim().toLowerCase().replace(/\s+/g, " "));
    return (row) => phrases.every((phrase) => haystack[row].includes(phrase));
  };
};
