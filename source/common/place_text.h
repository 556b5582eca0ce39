#pragma once

#include <source_location>
#include <string>

namespace nuncio {

// "client.cc:40 in void Client::connect()". Of a coroutine, g++ names the parameter of the function that its body
// became, "lookup(lookup(int)::_Z6lookupi.Frame*)"; that is left out.
std::string placeText(const std::source_location& place);

}  // namespace nuncio
